"""A day of a shard's users for their thresholds: what the decision log says of them becomes tomorrow's least values worth a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from budgets.allowance import weekly_budget
from budgets.experiments import Holdout
from budgets.keeping import KEPT, Kept, KeptName, KeptState
from budgets.thresholds import Cells, DayOfCells
from lake.decision_log import TABLE
from lake.history import History
from lake.ids import Keys64, hash64, shards_of
from lake.meta import Meta
from lake.profiles import Profiles, ProfileStore
from lake.user_keys import UserKeys
from scheduler.due import DueIndex
from scheduler.thresholds import OwnThresholds, Thresholds

DAY_S = 86_400
FAR_SLOT = 1 << 40
MOST_USERS = 1 << 30
"""Whoever is in the due index is due by then, and all of them fit into one answer."""

Floats = npt.NDArray[np.float64]

LATELY_DAYS = 3
"""A row whose user and item were decided on within as many days before is not offered for the first time."""

PAIR = ["user", "item_id", "channel"]


@dataclass(frozen=True)
class Lately:
    """Rows that were scored on the last days, oldest day first: frames of PAIR."""

    days: tuple[pd.DataFrame, ...] = ()

    def then(self, pairs: pd.DataFrame) -> Lately:
        """Return the days after one more."""
        return Lately((*self.days, pairs)[-LATELY_DAYS:])

    def holds(self, pairs: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which of some pairs are among them, (n,)."""
        if not self.days:
            return np.zeros(len(pairs), bool)
        known = pd.MultiIndex.from_frame(pd.concat(self.days, ignore_index=True))
        return np.asarray(pd.MultiIndex.from_frame(pairs).isin(known))


def cells_of(soft: Floats) -> Cells:
    """Return the cells of soft budgets, (users, channels), user by user; those of a channel are alike."""
    users, channels = soft.shape
    return Cells(soft.ravel(), np.tile(np.arange(channels, dtype=np.int32), users))


def soft_budgets(profiles: Profiles, weekly: npt.NDArray[np.uint8], channels: Sequence[int], share: float) -> Floats:
    """Return the sends per week to aim at, (users, channels): a share of the budgets, and none on a channel that is not wanted.

    `weekly`: the deployment's budgets by channel code. `channels`: the codes to return.
    """
    codes = np.asarray(channels, np.intp)
    wanted = weekly_budget(profiles["budget"], weekly, profiles["dial"], profiles["learned"])[:, codes] * np.float64(share)
    bits = np.uint32(1) << codes.astype(np.uint32)
    refused = (profiles["suppressed"] | profiles["not_allowed"])[:, None] & bits
    return np.where(refused != 0, 0.0, wanted)


def day_of(rows: pd.DataFrame, users: int, channels: Sequence[str], lately: Lately) -> tuple[DayOfCells, Lately]:
    """Return a day of a decision log as cells see it, and what was offered lately after it.

    `rows`: user (code, below `users`), item_id, channel, value, disposition, weight, of any lane. A row that was decided on several times
    that day counts once, with its best value. `channels`: names of the channels that have cells.
    """
    rows = rows.assign(code=pd.Index(list(channels)).get_indexer(pd.Index(rows["channel"])))
    rows = rows[rows["code"] >= 0]
    cell = (rows["user"].to_numpy(np.int64) * len(channels) + rows["code"].to_numpy(np.int64)).astype(np.int32)
    sent = cell[(rows["disposition"] == "send").to_numpy()]
    scored = rows.assign(cell=cell).dropna(subset=["value"]).sort_values("value", ascending=False, kind="stable").drop_duplicates(PAIR)
    pairs = scored[PAIR]
    day = DayOfCells(
        cell=scored["cell"].to_numpy(np.int32),
        value=scored["value"].to_numpy(np.float32),
        fresh=~lately.holds(pairs),
        sends=np.bincount(sent, minlength=users * len(channels)).astype(np.float64),
        observed=len(pairs) > 0,
        weight=scored["weight"].to_numpy(np.float32),
    )
    return day, lately.then(pairs)


@dataclass(frozen=True)
class ShardState:
    """What a shard's controller knows. `day`: the last UTC day number it has seen. `blind`: days in a row that it did not believe.

    `key`: hash64 of the users whose cells these are, ascending. `channels`: their codes, in the order of the cells. `name`: of the way
    that `kept` is the state of.
    """

    day: int
    blind: int
    key: Keys64
    channels: tuple[int, ...]
    name: KeptName
    kept: KeptState

    def pack(self) -> bytes:
        """Return the state as bytes."""
        parts: dict[str, Any] = {"day": self.day, "blind": self.blind, "key": self.key, "channels": np.array(self.channels, np.int64)}
        file = BytesIO()
        np.savez_compressed(file, **parts, name=np.array(self.name), **KEPT[self.name].pack(self.kept))
        return file.getvalue()

    @staticmethod
    def unpack(packed: bytes) -> ShardState:
        """Return the state of bytes."""
        with np.load(BytesIO(packed), allow_pickle=False) as file:
            parts = {name: file[name][()] for name in file.files}
        name: KeptName = "paced" if str(parts.get("name", "")) == "paced" else "steered"
        day, blind, channels = int(parts["day"]), int(parts["blind"]), tuple(parts["channels"].tolist())
        return ShardState(day, blind, parts["key"], channels, name, KEPT[name].unpack(parts))

    def without(self, key: Keys64) -> ShardState:
        """Return the state without some users."""
        stays = np.flatnonzero(~np.isin(self.key, key))
        return replace(self, key=self.key[stays], kept=self.kept.taken(cells_at(stays, len(self.channels))))


def cells_at(users: npt.NDArray[np.intp], channels: int) -> npt.NDArray[np.intp]:
    """Return the places of users' cells, (users * channels,); -1 for all of a user at -1."""
    cells: npt.NDArray[np.intp] = np.where(users[:, None] < 0, -1, users[:, None] * channels + np.arange(channels)).ravel()
    return cells


def forget(thresholds: Thresholds, users: Sequence[str], shards: int) -> None:
    """Take users out of the thresholds of their shards and out of what those were derived from."""
    of, key = shards_of(users, shards), hash64(users)
    for shard in np.unique(of).tolist():
        mine = key[of == shard]
        thresholds.revise_own(shard, partial(_without, mine))


def _without(key: Keys64, table: OwnThresholds, state: bytes) -> tuple[OwnThresholds, bytes]:
    return table.without(key), ShardState.unpack(state).without(key).pack() if state else state


@dataclass(frozen=True)
class OwnConfig:
    """`name`: of the way that thresholds are kept; where it changes they begin anew, from the log's last days. `believed`: least rows, as a
    share of the usual, of a day to learn from, and `most_blind` the days in a row that may be disbelieved before few rows are what is usual
    now. `most_days`: most days to catch up with.
    """

    name: KeptName = "steered"
    believed: float = 0.3
    most_blind: int = 4
    most_days: int = 7

    @property
    def kept(self) -> Kept:
        """The way that thresholds are kept."""
        return KEPT[self.name]


@dataclass(frozen=True)
class OwnJob:
    """The daily job of a shard. `channels`: names of those that have thresholds; `weekly`: default budgets by channel code, uint8.

    `holdout`: who has no scheduled sends, hence no threshold of their own; counting them in would send others more than their budgets.
    """

    meta: Meta
    due: DueIndex
    profiles: ProfileStore
    user_keys: UserKeys
    thresholds: Thresholds
    history: History
    channels: tuple[str, ...]
    weekly: npt.NDArray[np.uint8]
    config: OwnConfig = field(default_factory=OwnConfig)
    holdout: Holdout = field(default_factory=Holdout)

    def run(self, shard: int, now: float) -> int:
        """Bring a shard's thresholds up to the last whole day before `now` (seconds) and return the days that were read.

        Thresholds and the day they have seen are written in one step: a job that died is begun again, one that was done does nothing.
        """
        everyone = sorted(set(self.due.due(shard, FAR_SLOT, MOST_USERS)[0]))
        users = [user for user, held_out in zip(everyone, self.holdout.holds(everyone).tolist(), strict=True) if not held_out]
        last, packed = int(now // DAY_S) - 1, self.thresholds.state(shard)
        state = ShardState.unpack(packed) if packed else None
        if state is not None and state.name != self.config.name:
            state = None
        first = max(-1 if state is None else state.day + 1, last - self.config.most_days + 1)
        if not users or first > last:
            return 0
        users = [users[place] for place in np.argsort(hash64(users), kind="stable")]
        codes = tuple(self.meta.channel_codes(self.channels))
        cells = cells_of(soft_budgets(self.profiles.get(users), self.weekly, codes, self.config.kept.share))
        state = self._carried(state, hash64(users), codes, cells)
        lately = Lately()
        rows = self._rows(shard, first - LATELY_DAYS, last, users)
        if state.day < 0:
            # What the log holds of the week before the first run is how the week stands; an empty log is no outage.
            first = max(first, int(rows["day"].min())) if len(rows) else last
        for number in range(first - LATELY_DAYS, last + 1):
            day, lately = day_of(rows[rows["day"] == number], len(users), self.channels, lately)
            if number >= first:
                state = self._stepped(state, day, cells, number)
        own = np.full((len(users), len(self.meta.channels)), np.nan, np.float32)
        own[:, codes] = self.config.kept.controller.thresholds(state.kept).reshape(len(users), -1)
        self.thresholds.write_own(shard, OwnThresholds.of(users, own), state.pack())
        # Whoever was erased meanwhile has left the due index before their row was taken out, or is taken out here.
        gone = [user for user, slot in zip(users, self.due.slots(users).tolist(), strict=True) if slot < 0]
        if gone:
            forget(self.thresholds, gone, self.meta.shards)
        return last - first + 1

    def _carried(self, state: ShardState | None, key: Keys64, codes: tuple[int, ...], cells: Cells) -> ShardState:
        """Return the state for today's users: those who are new begin as those like them are."""
        if state is None or state.channels != codes:
            return ShardState(-1, 0, key, codes, self.config.name, self.config.kept.controller.start(cells))
        place = np.minimum(np.searchsorted(state.key, key), max(len(state.key) - 1, 0))
        known = (state.key[place] == key) if len(state.key) else np.zeros(len(key), bool)
        at = cells_at(np.where(known, place, -1), len(codes))
        return replace(state, key=key, kept=self.config.kept.controller.carried(state.kept, at, cells))

    def _stepped(self, state: ShardState, day: DayOfCells, cells: Cells, number: int) -> ShardState:
        controller = self.config.kept.controller
        usual = controller.usual(state.kept)
        few = day.weight[day.fresh].sum() < self.config.believed * usual and state.blind < self.config.most_blind
        observed = day.observed and not few
        kept = controller.step(state.kept, replace(day, observed=observed), cells)
        return replace(state, day=number, blind=0 if observed else state.blind + 1, kept=kept)

    def _rows(self, shard: int, first: int, last: int, users: Sequence[str]) -> pd.DataFrame:
        """Return the rows of a shard's decision log of whole UTC days, with their day number and the codes of users."""
        names = ["at", "user_key", "item_id", "channel", "value", "disposition", "weight"]
        rows = self.history.read(TABLE, first * DAY_S, last * DAY_S, columns=names, where=pc.field("shard") == shard)
        keys = [key or "" for key in self.user_keys.known(users)]
        code = {key: place for place, key in enumerate(keys) if key}
        rows = rows.assign(user=rows["user_key"].map(code)).dropna(subset=["user"])
        day = pd.to_datetime(rows["at"], utc=True).dt.as_unit("s").astype("int64") // DAY_S
        return rows.assign(day=day)
