"""When a user's delivery windows open: local quarter-hours of the week as 15-minute UTC ticks, right at every change of the clocks.

A slot is a UTC tick, floor(seconds / 900). A window is a local date and quarter-hour, as one number: days since 1970-01-01 times 96
plus the quarter-hour of the day. It opens at the first tick at which the user's local time has reached it: of a quarter-hour that
comes twice that is the first, one that is skipped opens at the first quarter-hour after the gap and goes by that one's number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.profiles import NO_OFFSET, NO_WINDOW, WEEKDAYS, Profiles

SLOT_S = 900
DAY_QUARTERS, WEEK_QUARTERS = 96, 672
NO_SLOT = -1

EPOCH_QUARTERS = 3 * DAY_QUARTERS
"""1970-01-01 was a Thursday; weeks count from Monday."""
_YEARS = range(2000, 2041)
_STEP_S = 3 * 86_400
"""Shorter than the time between any two changes of a zone in these years (7 days, north-east Brazil in October 2000)."""
_EVER = 1 << 34
"""Seconds, 544 years: before and after all times asked about."""
_SPAN = 1 << 36
"""Seconds between two places' times on the shared axis of `LocalTimes`."""

Ints = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.int64] | int
Moments: TypeAlias = "npt.NDArray[np.float64] | float"
Zones: TypeAlias = "npt.NDArray[np.bytes_] | npt.NDArray[np.str_] | npt.NDArray[np.object_] | pd.Series[str]"


class Stretches(NamedTuple):
    """The stretches of time in which one UTC offset held: when each began, its offset, the latest local time by its end; int64 seconds."""

    begins: Ints
    offset_s: Ints
    reached: Ints

    @classmethod
    def of(cls, begins: list[int], offsets: list[int]) -> Stretches:
        """Return stretches that follow one another, the last one without end."""
        begins_s, offset_s = np.array(begins, np.int64), np.array(offsets, np.int64)
        return cls(begins_s, offset_s, np.maximum.accumulate(np.append(begins_s[1:], 2 * _EVER) + offset_s - 1))


@cache
def stretches_of(zone: str) -> Stretches | None:
    """Return the stretches of an IANA zone, or None for a name that is not a zone.

    Exact from 2000 through 2040; the first and the last offset of that time hold for ever.
    """
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (_YEARS[0], _YEARS[-1] + 1))
    begins, offsets = [-_EVER], [_offset_s(place, first)]
    for at in range(first + _STEP_S, last, _STEP_S):
        if (offset := _offset_s(place, at)) != offsets[-1]:
            begins.append(_change_between(place, at - _STEP_S, at))
            offsets.append(offset)
    return Stretches.of(begins, offsets)


def _offset_s(place: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, place).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _change_between(place: ZoneInfo, low: int, high: int) -> int:
    before = _offset_s(place, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset_s(place, middle) == before else (low, middle)
    return high


@dataclass(frozen=True)
class LocalTimes:
    """The local times of n users: `place` int64, shape (n,), is the user's row of the distinct places that `of` found.

    All places share one sorted axis, a place's seconds shifted by its row times _SPAN, so that one binary search answers
    for all users. The other columns are the places' `Stretches`, with `begins` and `reached` on that axis; `reached_before`
    is the latest local time of all earlier stretches of the place, in seconds.
    """

    place: Ints
    begins: Ints
    offset_s: Ints
    reached_before: Ints
    reached: Ints

    @classmethod
    def of(cls, zones: Zones, offset_minutes: npt.ArrayLike) -> LocalTimes:
        """Return the local times of users; where a zone is empty or not known here, the offset counts, and failing that UTC.

        `zones`: IANA names, shape (n,), str or bytes. `offset_minutes`: shape (n,), NO_OFFSET or NaN where unknown.
        """
        code, names = _factorized(zones)
        known = [stretches_of(name) if name else None for name in names]
        has_zone = np.array([stretches is not None for stretches in known], bool)
        offsets = np.nan_to_num(np.asarray(offset_minutes, np.float64), nan=0.0).astype(np.int64)
        offsets[offsets == NO_OFFSET] = 0
        fixed, minutes = pd.factorize(offsets)
        places = [stretches for stretches in known if stretches] + [Stretches.of([-_EVER], [int(m) * 60]) for m in minutes]
        zone_place = np.cumsum(has_zone) - 1
        place = np.where(has_zone[code], zone_place[code], has_zone.sum() + fixed).astype(np.int64)
        return cls(place, *_on_one_axis(places))

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> LocalTimes:
        """Return the local times of the given rows, such as the user of each event."""
        return replace(self, place=self.place[rows])

    def offset_at(self, at: Seconds) -> Ints:
        """Return the seconds that local time is ahead of UTC at `at` (seconds, one for all or one each), shape (n,)."""
        return self.offset_s[self._stretch_at(at)]

    def minutes_at(self, at: float) -> npt.NDArray[np.int32]:
        """Return the local minute of the day, 0..1439, at `at` (seconds), int32 (n,)."""
        second = int(np.floor(at))
        return ((second + self.offset_at(second)) // 60 % 1440).astype(np.int32)

    def latest_at(self, at: Seconds) -> Ints:
        """Return the latest local time in seconds that was ever reached until `at`; it never runs backwards, as local time may."""
        stretch = self._stretch_at(at)
        latest: Ints = np.maximum(at + self.offset_s[stretch], self.reached_before[stretch])
        return latest

    def first_reached(self, local_s: Ints) -> Ints:
        """Return the first moment (seconds) at which local time has reached `local_s` (seconds, shape (n,)), shape (n,)."""
        stretch = np.searchsorted(self.reached, local_s + self.place * _SPAN, side="left")
        first: Ints = np.maximum(self.begins[stretch] - self.place * _SPAN, local_s - self.offset_s[stretch])
        return first

    def _stretch_at(self, at: Seconds) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.begins, self.place * _SPAN + at, side="right") - 1


def _factorized(zones: Zones) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return each row's code and the distinct names, "" for none; bytes and str alike."""
    code, names = pd.factorize(np.asarray(zones).astype(object), use_na_sentinel=False)
    text = [name.decode() if isinstance(name, bytes) else name for name in names]
    return code, [name if isinstance(name, str) else "" for name in text]


def _on_one_axis(places: list[Stretches]) -> tuple[Ints, Ints, Ints, Ints]:
    if not places:
        return (np.empty(0, np.int64),) * 4
    begins, offset_s, reached = (np.concatenate(column) for column in zip(*places, strict=True))
    row = np.repeat(np.arange(len(places)), [len(place.begins) for place in places])
    before = np.append(-2 * _EVER, reached[:-1])
    before[begins == -_EVER] = -2 * _EVER
    return begins + row * _SPAN, offset_s, before, reached + row * _SPAN


def next_slots(
    now: Moments,
    zones: Zones,
    offset_minutes: npt.ArrayLike,
    windows: npt.NDArray[np.uint16],
    quiet: npt.NDArray[np.int16] | None = None,
    *,
    inclusive: bool = False,
    times: LocalTimes | None = None,
) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return the slot (int64) and the window (int32) of each user's first window after `now`, both (n,), NO_SLOT where there is none.

    `windows`: local quarter-hours of the week, shape (n, w), NO_WINDOW padded. `quiet`: local minutes of the day (from, to),
    shape (n, 2), -1 for none; a window inside opens when they end. `inclusive`: a window that opens at `now` counts.
    `now`: seconds, one moment for all or one each. `times`: the users' local times, where they are known already.
    """
    times = times or LocalTimes.of(zones, offset_minutes)
    last_tick = (np.ceil(np.asarray(now) / SLOT_S) - 1 if inclusive else np.floor(np.asarray(now) / SLOT_S)).astype(np.int64)
    if quiet is not None:
        windows = outside_quiet(windows, quiet)
    quarter = times.latest_at(last_tick * SLOT_S) // SLOT_S + 1
    ahead = (windows.astype(np.int64) - (quarter[:, None] + EPOCH_QUARTERS)) % WEEK_QUARTERS
    ahead[windows == NO_WINDOW] = WEEK_QUARTERS
    soonest = ahead.min(axis=1, initial=WEEK_QUARTERS)
    slot = -(-times.first_reached((quarter + soonest) * SLOT_S) // SLOT_S)
    window = local_quarters(times, slot)
    none = soonest == WEEK_QUARTERS
    slot[none], window[none] = NO_SLOT, NO_SLOT
    return slot, window


def windows_due(
    slot: int,
    zones: Zones,
    offset_minutes: npt.ArrayLike,
    windows: npt.NDArray[np.uint16],
    quiet: npt.NDArray[np.int16] | None = None,
) -> npt.NDArray[np.int32]:
    """Return the window that opens at `slot` for each user, int32 (n,), NO_SLOT for users of whom none does (any more)."""
    due, window = next_slots(slot * SLOT_S, zones, offset_minutes, windows, quiet, inclusive=True)
    return np.where(due == slot, window, NO_SLOT).astype(np.int32)


def chosen_windows(profiles: Profiles) -> npt.NDArray[np.uint16]:
    """Return the local quarter-hours of the week at which users are told, (n, MAX_WINDOWS): those they chose, else those predicted."""
    choosers = np.flatnonzero(profiles["digest_days"])
    if not len(choosers):
        return np.asarray(profiles["windows"], np.uint16)
    windows = profiles["windows"].copy()
    days = np.arange(len(WEEKDAYS))
    wanted = profiles["digest_days"][choosers, None] >> days & 1 == 1
    windows[choosers] = NO_WINDOW
    chosen = days * DAY_QUARTERS + profiles["digest_quarter"][choosers, None]
    windows[choosers, : len(days)] = np.where(wanted, chosen, NO_WINDOW)
    return np.asarray(windows, np.uint16)


def local_times_of(profiles: Profiles) -> LocalTimes:
    """Return the local times of users by their profiles."""
    return LocalTimes.of(profiles["zone"], profiles["utc_offset_minutes"])


def next_slots_of(profiles: Profiles, now: Moments, times: LocalTimes | None = None) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return `next_slots` of users by their profiles."""
    quiet = np.stack([profiles["quiet_from"], profiles["quiet_to"]], axis=1)
    return next_slots(now, profiles["zone"], profiles["utc_offset_minutes"], chosen_windows(profiles), quiet, times=times)


def windows_due_of(profiles: Profiles, slot: int) -> npt.NDArray[np.int32]:
    """Return `windows_due` of users by their profiles."""
    quiet = np.stack([profiles["quiet_from"], profiles["quiet_to"]], axis=1)
    return windows_due(slot, profiles["zone"], profiles["utc_offset_minutes"], chosen_windows(profiles), quiet)


def local_quarters(times: LocalTimes, slot: Seconds) -> npt.NDArray[np.int32]:
    """Return the window that local time is in at a slot: local days since 1970-01-01 times 96 plus the quarter-hour, int32 (n,)."""
    at = slot * SLOT_S
    return ((at + times.offset_at(at)) // SLOT_S).astype(np.int32)


def outside_quiet(windows: npt.NDArray[np.uint16], quiet: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
    """Return windows (n, w) with those inside quiet hours (n, 2: from and to, minutes of the day) moved to their end.

    Quiet hours include their start and not their end, and may run over midnight; equal start and end mean none.
    """
    start, end = (quiet[:, [side]].astype(np.int64) for side in (0, 1))
    length = (end - start) % 1440
    minute = windows.astype(np.int64) % DAY_QUARTERS * 15
    into = (minute - start) % 1440
    inside = (start >= 0) & (end >= 0) & (into < length) & (windows != NO_WINDOW)
    wait_quarters = -(-(length - into) // 15)
    return np.where(inside, (windows + wait_quarters) % WEEK_QUARTERS, windows).astype(np.uint16)
