"""In which of their local hours users were active, as columns and as counts by hour of the week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.profiles import NO_OFFSET
from scheduler.send_time_params import SendTimeParams
from scheduler.windows import EPOCH_QUARTERS, LocalTimes

WEEK_HOURS = 168
_EVER_HOURS = 1 << 32
"""More hours than any time asked about is away from 1970."""

_FORGOTTEN = -60
"""Half-lives, negative, after which no more is forgotten: less than 1e-18 is nothing, and denormal numbers are many times slower."""

EPOCH_HOURS = EPOCH_QUARTERS // 4
"""From a Monday 00h until epoch time begins."""

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """Events as columns sorted by user and local hour: `user` codes into `ids`, `hour` since 1970, `channel` codes into `channels`.

    `latest_at`: seconds, each user's latest event. All but `ids` and `channels` are int64. `usual`: zone and offset in minutes that most
    events are in, "" and NO_OFFSET for neither, by which whoever has told neither goes.
    """

    ids: npt.NDArray[np.object_]
    user: Ints
    hour: Ints
    channel: Ints
    channels: list[str]
    latest_at: Ints
    usual: tuple[str, int]

    @classmethod
    def of(cls, events: pd.DataFrame, users: pd.DataFrame) -> History:
        """Read the interchange tables."""
        at = events["at"].dt.as_unit("s").astype("int64").to_numpy()
        user, ids = pd.factorize(events["user_id"])
        times, usual = _local_times(ids, np.bincount(user, minlength=len(ids)), users)
        offset_s = times.take(user).offset_at(at)
        if "utc_offset_minutes" in events:
            own = events["utc_offset_minutes"].to_numpy(np.float64, na_value=np.nan)
            offset_s = np.where(np.isnan(own), offset_s, np.nan_to_num(own) * 60).astype(np.int64)
        hour = (at + offset_s) // 3600
        order = np.argsort(user * _EVER_HOURS + hour, kind="stable")
        channel, channels = np.full(len(user), -1), pd.Index([])
        if "channel" in events and events["channel"].notna().any():
            channel, channels = pd.factorize(events["channel"])
        latest_at = np.full(len(ids), np.iinfo(np.int64).min)
        np.maximum.at(latest_at, user, at)
        return cls(
            np.asarray(ids, dtype=object), user[order], hour[order], channel[order], [str(name) for name in channels], latest_at, usual
        )


def _local_times(ids: pd.Index[str], events: Ints, users: pd.DataFrame) -> tuple[LocalTimes, tuple[str, int]]:
    """Return the local times of users, by the zone or else the offset in `users`, else those that most `events` (n,) are in; and these."""
    row = pd.Index(users["user_id"]).get_indexer(ids)
    zone = _of_rows(users, "timezone", row, "")
    offset = _of_rows(users, "utc_offset_minutes", row, np.nan).astype(np.float64)
    minutes = np.where((zone != "") | np.isnan(offset), NO_OFFSET, np.nan_to_num(offset)).astype(np.int64)
    lost = (zone == "") & (minutes == NO_OFFSET)
    usual = ("", NO_OFFSET)
    if not lost.all():
        told = pd.DataFrame({"zone": zone[~lost], "minutes": minutes[~lost], "events": events[~lost]})
        most = told.groupby(["zone", "minutes"])["events"].sum().reset_index().sort_values("events", ascending=False, kind="stable")
        usual = (str(most["zone"].iloc[0]), int(most["minutes"].iloc[0]))
    zone[lost], minutes[lost] = usual
    return LocalTimes.of(zone, minutes), usual


def _of_rows(frame: pd.DataFrame, column: str, row: npt.NDArray[np.intp], missing: object) -> npt.NDArray[np.object_]:
    """Return a column of the rows, -1 for none, with `missing` where there is nothing."""
    values = np.full(len(frame) + 1, missing, object)
    if column in frame:
        there = frame[column].notna().to_numpy()
        values[:-1][there] = frame[column].to_numpy(object)[there]
    of_rows: npt.NDArray[np.object_] = values[row]
    return of_rows


@dataclass(frozen=True)
class Activity:
    """Hours in which users were active, sorted by user and time, one row for each hour of a date.

    `first`: int64 (users + 1,), where each user's rows begin. `hour`: local hours since 1970. `weight`: float32.
    """

    first: Ints
    hour: Ints
    weight: F32

    @classmethod
    def of(cls, user: Ints, hour: Ints, users: int, params: SendTimeParams) -> Activity:
        """Collapse events, given as user codes and local hours and sorted by both."""
        key = user * _EVER_HOURS + hour
        begins = np.flatnonzero(np.diff(key, prepend=-_EVER_HOURS))
        repeats = np.diff(np.append(begins, len(key)))
        first = np.searchsorted(user[begins], np.arange(users + 1))
        return cls(first, hour[begins], (repeats**params.repeat_power).astype(np.float32))

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def rows(self) -> Ints:
        """The number of rows of each user."""
        return np.diff(self.first)

    @property
    def owner(self) -> Ints:
        """The user of each row."""
        return np.repeat(np.arange(len(self)), self.rows)

    def slice(self, part: slice) -> Activity:
        """Return the users of a slice."""
        first = self.first[part.start : part.stop + 1]
        rows = slice(int(first[0]), int(first[-1]))
        return Activity(first - first[0], self.hour[rows], self.weight[rows])

    def where(self, keep: npt.NDArray[np.bool_]) -> Activity:
        """Return the same users with only some of their rows."""
        first = np.append(0, np.cumsum(keep))[self.first]
        return Activity(first, self.hour[keep], self.weight[keep])

    def take(self, users: npt.NDArray[np.integer]) -> Activity:
        """Return some users, in ascending order."""
        chosen = np.zeros(len(self), bool)
        chosen[users] = True
        kept = self.where(chosen[self.owner])
        return Activity(np.append(kept.first[:-1][chosen], kept.first[-1]), kept.hour, kept.weight)

    def counts(self, half_life_days: float = np.inf) -> F32:
        """Return weighted activity by user and hour of the week, (users, 168), halved for every half-life before the user's latest."""
        owner, weight = self.owner, self.weight
        if np.isfinite(half_life_days):
            latest = self.hour[np.maximum(self.first[1:] - 1, 0)] if len(self.hour) else np.zeros(len(self), np.int64)
            half_lives = (self.hour - latest[owner]) / np.float32(24 * half_life_days)
            weight = weight * np.exp2(np.maximum(half_lives, _FORGOTTEN)).astype(np.float32)
        cell = owner * WEEK_HOURS + (self.hour + EPOCH_HOURS) % WEEK_HOURS
        return np.bincount(cell, weight, len(self) * WEEK_HOURS).reshape(-1, WEEK_HOURS).astype(np.float32)
