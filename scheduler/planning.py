"""Planning ahead: which of the rows that could go in this window had better wait for one of the user's next ones, jointly decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.profiles import Profiles
from scheduler.assignment import AssignConfig, Choices, assign
from scheduler.decide import DecideConfig, Rows
from scheduler.windows import DAY_QUARTERS, NO_SLOT, SLOT_S, LocalTimes, local_quarters, next_slots_of

WEEK_S = 7 * 86400

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PlanConfig:
    """`windows`: how many windows after this one are planned with it; 0: each window is decided for itself. `items`: most items planned
    per user, the most valuable now. `day_cap`: most sends planned for a local day. `least_gap_s`: of windows closer than this one is used.
    """

    windows: int = 0
    items: int = 20
    day_cap: int = 6
    least_gap_s: float = 3600.0
    assign: AssignConfig = field(default_factory=AssignConfig)


@dataclass(frozen=True)
class Ahead:
    """Users' windows from this one on: seconds until each, float64 (users, windows + 1), inf for none; and its local day, int64."""

    wait_s: npt.NDArray[np.float64]
    day: Ints


@dataclass(frozen=True)
class Lasting:
    """How long rows last, (n,) each: `half_life_s` of their value, `expires_at` in seconds since 1970, `promised` before."""

    half_life_s: F32
    expires_at: npt.NDArray[np.float64]
    promised: Bools


class _Places(NamedTuple):
    """Where rows lie in a table of users x items x channels: `user` and `item` of the table, `kept` which rows have a place there."""

    users: npt.NDArray[np.int32]
    user: npt.NDArray[np.intp]
    item: Ints
    kept: npt.NDArray[np.intp]


def upcoming(profiles: Profiles, now: float, windows: int) -> Ahead:
    """Return this moment and the next `windows` windows of users, in order, none after a week."""
    times = LocalTimes.of(profiles["zone"], profiles["utc_offset_minutes"])
    wait_s, day = np.full((len(profiles), windows + 1), np.inf), np.full((len(profiles), windows + 1), -1, np.int64)
    wait_s[:, 0], day[:, 0] = 0.0, local_quarters(times, int(now // SLOT_S)) // DAY_QUARTERS
    at = np.full(len(profiles), float(now))
    for place in range(1, windows + 1):
        slot, window = next_slots_of(profiles, at)
        opens = slot * float(SLOT_S)
        there = (slot != NO_SLOT) & (opens < now + WEEK_S) & (opens > at)
        wait_s[there, place], day[there, place] = opens[there] - now, window[there] // DAY_QUARTERS
        at = np.where(there, opens, at)
        if not there.any():
            break
    return Ahead(wait_s, day)


def planned_later(
    rows: Rows, lasting: Lasting, ahead: Ahead, allowance: npt.NDArray[np.int16], now: float, decide: DecideConfig, config: PlanConfig
) -> F32:
    """Return what each row is worth in the later window its user's joint plan gives it, float32 (n,), -inf where there is none.

    A row counts in a window if it is alive then, beats its threshold and keeps `decide.least_kept` of its value. Of an entity one row
    is planned. What is planned for now, or not planned, is left to be decided as without a plan.
    """
    later = np.full(len(rows.user), -np.inf, np.float32)
    if len(rows.user) == 0:
        return later
    places = _places(rows, config.items)
    users = places.users
    kept, at = places.kept, (places.user, places.item)
    worth = _worth(rows, lasting, ahead, now, decide)[kept]
    value = np.full((len(users), int(places.item.max()) + 1, worth.shape[1], allowance.shape[1]), -1, np.float32)
    value[(*at, slice(None), rows.channel[kept])] = worth
    promised = np.zeros(value.shape[:2], bool)
    promised[at] |= lasting.promised[kept]
    wait_s = np.where(np.isfinite(ahead.wait_s[users]), ahead.wait_s[users], np.arange(worth.shape[1]) * 1e9 + 1e12)
    near = np.abs(wait_s[:, :, None] - wait_s[:, None, :]) < config.least_gap_s
    day = np.cumsum(np.diff(ahead.day[users], axis=1, prepend=ahead.day[users, :1]) != 0, axis=1)
    choices = Choices(value, np.maximum(allowance[users], 0), day, config.day_cap, decide.top_n, near)
    cell = assign(choices, config.assign, promised)[at]
    waits = (cell >= allowance.shape[1]) & (cell % allowance.shape[1] == rows.channel[kept])
    later[kept[waits]] = worth[waits, cell[waits] // allowance.shape[1]]
    return later


def _worth(rows: Rows, lasting: Lasting, ahead: Ahead, now: float, decide: DecideConfig) -> F32:
    """Return what rows are worth in each of their user's windows, (n, windows), -1 where they must not go."""
    wait_s = ahead.wait_s[rows.user]
    worth = rows.value[:, None] * np.exp2(-wait_s / lasting.half_life_s[:, None])
    alive = (now + wait_s < lasting.expires_at[:, None]) & np.isfinite(wait_s)
    enough = (worth >= rows.threshold[:, None]) & ((worth >= decide.least_kept * rows.value[:, None]) | (wait_s == 0))
    return np.where(alive & enough & ~rows.critical[:, None], worth, -1).astype(np.float32)


def _places(rows: Rows, most_items: int) -> _Places:
    """Return a place for each user's most valuable entities, and the most valuable row of each on each channel."""
    by_worth = np.lexsort((-rows.value, rows.user))
    frame = pd.DataFrame({"user": rows.user[by_worth], "entity": rows.entity[by_worth], "channel": rows.channel[by_worth]})
    first = ~frame.duplicated()
    entities = frame[~frame.duplicated(["user", "entity"])]
    item = entities.groupby("user").cumcount()
    place = pd.MultiIndex.from_frame(entities[["user", "entity"]]).get_indexer(pd.MultiIndex.from_frame(frame[["user", "entity"]]))
    of_row = np.asarray(item.to_numpy(np.int64)[place], np.int64)
    chosen = first.to_numpy() & (of_row < most_items)
    users, user = np.unique(frame["user"].to_numpy()[chosen], return_inverse=True)
    return _Places(users, user, of_row[chosen], by_worth[chosen])
