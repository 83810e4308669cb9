"""What a unit of each channel's budget is worth this week: learned from last week's decision log, read by the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from budgets.thresholds import threshold
from lake.history import History
from lake.ids import Keys64, hash64

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer]

FRESH_S = 60.0
"""How long one goes by the thresholds one has read."""

PERIOD_S = 7 * 86400.0
BELIEVED = 0.3
"""Least rows of a day, as a share of the usual, for it to count as one."""
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MOST_SHARDS = 8
"""The log of this many shards stands for all: the N-th highest value needs a sample, not everybody."""


class Thresholds(Protocol):
    """Where the learned thresholds live, by channel name. One round trip per call."""

    def read(self) -> dict[str, float]:
        """Return the thresholds; a channel that is absent has none."""
        ...

    def write(self, learned: Mapping[str, float]) -> None:
        """Replace the thresholds."""
        ...

    def own(self, users: Sequence[str], shard: Ints, now: float) -> F32 | None:
        """Return what users have of their own, float32 (users, channels) by code, NaN where they have none; None: nobody has any.

        `shard`: of each user. May be up to FRESH_S old; blocks for the store where it is older.
        """
        ...

    def write_own(self, shard: int, table: OwnThresholds, state: bytes = b"") -> None:
        """Replace the thresholds of a shard's users, and with them, in one step, the state that they were derived from."""
        ...

    def state(self, shard: int) -> bytes:
        """Return the state last written for a shard, b"" where there is none."""
        ...

    def revise_own(self, shard: int, revise: Revise) -> None:
        """Replace what a shard has by what `revise` makes of it, in one step: it is asked again where another has written meanwhile.

        A shard without thresholds stays as it is.
        """
        ...


Revise = Callable[["OwnThresholds", bytes], tuple["OwnThresholds", bytes]]
"""From a shard's thresholds and state to the next ones."""


@dataclass(frozen=True)
class OwnThresholds:
    """The thresholds of some users. `key`: lake.ids.hash64 of each, ascending, (n,). `threshold`: float32 (n, channels), NaN: none."""

    key: Keys64
    threshold: F32

    @staticmethod
    def of(users: Sequence[str], threshold: F32) -> OwnThresholds:
        """Return the table of users and their thresholds, (users, channels)."""
        key = hash64(users)
        order = np.argsort(key)
        return OwnThresholds(key[order], np.ascontiguousarray(threshold[order], np.float32))

    def find(self, key: Keys64) -> F32:
        """Return the thresholds of users by key, NaN for those who are not here, (n, channels)."""
        if not len(self.key):
            return np.full((len(key), self.threshold.shape[1]), np.nan, np.float32)
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where((self.key[at] == key)[:, None], self.threshold[at], np.float32(np.nan))

    def without(self, key: Keys64) -> OwnThresholds:
        """Return the table without some users."""
        stays = ~np.isin(self.key, key)
        return OwnThresholds(self.key[stays], self.threshold[stays])

    def pack(self) -> bytes:
        """Return the table as bytes: its channels, keys and thresholds."""
        return np.uint32(self.threshold.shape[1]).tobytes() + self.key.astype("<u8").tobytes() + self.threshold.astype("<f4").tobytes()

    @staticmethod
    def unpack(packed: bytes) -> OwnThresholds:
        """Return the table of bytes."""
        channels = int(np.frombuffer(packed[:4], "<u4")[0])
        users = (len(packed) - 4) // (8 + 4 * channels)
        key = np.frombuffer(packed, "<u8", users, 4)
        return OwnThresholds(key, np.frombuffer(packed, "<f4", users * channels, 4 + 8 * users).reshape(users, channels))


def own_of(tables: Mapping[int, OwnThresholds], users: Sequence[str], shard: Ints) -> F32 | None:
    """Return the thresholds of users out of the tables of their shards, as Thresholds.own does."""
    present = {number: table for number, table in tables.items() if len(table.key)}
    if not present or not len(users):
        return None
    key = hash64(users)
    found = np.full((len(users), next(iter(present.values())).threshold.shape[1]), np.nan, np.float32)
    for number, table in present.items():
        mine = shard == number
        if mine.any():
            found[mine] = table.find(key[mine])
    return found


@dataclass
class MemoryThresholds:
    """Thresholds in dictionaries, for tests and replay."""

    learned: dict[str, float] = field(default_factory=dict)
    tables: dict[int, OwnThresholds] = field(default_factory=dict)
    states: dict[int, bytes] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """See Thresholds."""
        return dict(self.learned)

    def write(self, learned: Mapping[str, float]) -> None:
        """See Thresholds."""
        self.learned = dict(learned)

    def own(self, users: Sequence[str], shard: Ints, now: float) -> F32 | None:
        """See Thresholds."""
        del now
        return own_of(self.tables, users, shard)

    def write_own(self, shard: int, table: OwnThresholds, state: bytes = b"") -> None:
        """See Thresholds."""
        self.tables[shard], self.states[shard] = table, state

    def state(self, shard: int) -> bytes:
        """See Thresholds."""
        return self.states.get(shard, b"")

    def revise_own(self, shard: int, revise: Revise) -> None:
        """See Thresholds."""
        if shard in self.tables:
            self.write_own(shard, *revise(self.tables[shard], self.state(shard)))


def learn(log: pd.DataFrame, sends_wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the threshold of each channel: last week's N-th highest value, N the sends that its budgets allow.

    `log`: rows of the scheduled lane with user_key, item_id, channel, value, weight. A row that was offered in several
    windows counts once, with its best value: it would be sent once. A channel with fewer rows than sends wanted has no
    threshold.
    """
    offers = log.dropna(subset=["value"]).groupby(["channel", "user_key", "item_id"], sort=False)
    best = offers.agg(value=("value", "max"), weight=("weight", "max")).reset_index()
    found = {
        str(name): threshold(rows["value"].to_numpy(), rows["weight"].to_numpy(), sends_wanted.get(str(name), 0.0))
        for name, rows in best.groupby("channel")
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def last_week(history: History, now: float, shards: int) -> tuple[pd.DataFrame, float]:
    """Return the scheduled rows of the 7 days before `now` of some shards, and the share of all shards that those are."""
    read = min(shards, MOST_SHARDS)
    where = (pc.field("lane") == "scheduled") & (pc.field("shard") < read)
    names = ["at", "user_key", "item_id", "channel", "value", "weight"]
    rows = history.read("decisions", now - PERIOD_S, now, columns=names, where=where)
    since = pd.Timestamp(now - PERIOD_S, unit="s", tz="UTC")
    return (rows[rows["at"] >= since] if len(rows) else rows), read / shards


def believed(rows: pd.DataFrame, now: float) -> float:
    """Return which share of the 7 days before `now` had about as many rows as usual: after a gap, fewer days' offers earn fewer sends.

    `rows`: with `at`, as `last_week` returns them. Without this the week after an outage would spend on what is left of the one before it
    all that its days would have shared.
    """
    day = (now - rows["at"].astype("int64").to_numpy() / UNITS[rows["at"].dt.unit]) // 86400.0
    count = np.bincount(np.clip(day, 0, 6).astype(np.intp), weights=rows["weight"].to_numpy(np.float64), minlength=7)
    return float((count >= BELIEVED * np.median(count[count > 0])).mean()) if count.any() else 1.0
