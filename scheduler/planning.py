"""Planning ahead: which of the rows that could go in this window had better wait for one of the user's next ones, jointly decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from budgets.ledger import CRITICAL, LedgerColumns
from lake.profiles import MAX_WINDOWS, Profiles
from scheduler.assignment import F32, AssignConfig, Bools, Choices, Ints, assign
from scheduler.decide import DecideConfig, Rows
from scheduler.windows import DAY_QUARTERS, EPOCH_QUARTERS, NO_SLOT, SLOT_S, WEEK_QUARTERS, local_quarters, local_times_of, next_slots_of

WEEK_S = 7 * 86400


@dataclass(frozen=True)
class PlanConfig:
    """`windows`: how many windows after this one are planned with it; 0: each window is decided for itself, and the rest does not apply.
    `items`: most items planned per user, the most valuable now. `day_cap`: most sends of a local day, by either lane. `least_gap_s`: least
    time between a scheduled send and the ones before it; of windows closer than this one is used. `most_by_hour`: how much more or less
    than now an item may count at another window's hour, by how likely the user is to engage then.
    """

    windows: int = 0
    items: int = 20
    day_cap: int = 6
    least_gap_s: float = 3600.0
    most_by_hour: float = 2.0
    assign: AssignConfig = field(default_factory=AssignConfig)

    def __post_init__(self) -> None:
        enough = self.items >= 1 and self.day_cap >= 1 and self.least_gap_s >= 0 and self.most_by_hour >= 1
        if not (0 <= self.windows <= MAX_WINDOWS and enough):
            raise ValueError(
                f"a plan takes 0 to {MAX_WINDOWS} windows, items, day_cap and most_by_hour of 1 or more, least_gap_s of 0 or more: {self}"
            )


@dataclass(frozen=True)
class Before:
    """What users were sent before, (users,) each: `today`, int64, on this moment's local day; `since_s`, float64, seconds, inf: never."""

    today: Ints
    since_s: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What is left for now by a plan, beside what it puts off.

    `value`: float32 (n,), what rows count now: those that are worth a unit and were promised before a little more than they are worth, or
    what the plan has no unit for would take theirs. `later`: float32 (n,), each row's in the later window it is planned for, -inf where it
    is not. `allowance`: int16 (users, channels), units that the plan does not need later. `places`: int64 (users,), sends that may go now.
    """

    value: F32
    later: F32
    allowance: npt.NDArray[np.int16]
    places: Ints


@dataclass(frozen=True)
class Ahead:
    """Users' windows from this one on, (users, windows + 1) each: seconds until it, inf for none; its local day; and how likely they are
    to engage then, over how likely now (1 where either is unknown).
    """

    wait_s: npt.NDArray[np.float64]
    day: Ints
    likely: F32


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
    times = local_times_of(profiles)
    wait_s, opened = np.full((len(profiles), windows + 1), np.inf), np.full((len(profiles), windows + 1), NO_SLOT, np.int64)
    wait_s[:, 0], opened[:, 0] = 0.0, local_quarters(times, int(now // SLOT_S))
    at = np.full(len(profiles), float(now))
    for place in range(1, windows + 1):
        slot, window = next_slots_of(profiles, at)
        opens = slot * float(SLOT_S)
        there = (slot != NO_SLOT) & (opens < now + WEEK_S) & (opens > at)
        wait_s[there, place], opened[there, place] = opens[there] - now, window[there]
        at = np.where(there, opens, at)
        if not there.any():
            break
    return Ahead(wait_s, opened // DAY_QUARTERS, _likely(profiles, opened))


def _likely(profiles: Profiles, opened: Ints) -> F32:
    """Return how likely users are to engage at windows, over the first of them, 1 where either is not one that the profile tells of."""
    quarter = (opened + EPOCH_QUARTERS) % WEEK_QUARTERS
    own = (profiles["windows"][:, None, :] == quarter[:, :, None]) & (opened != NO_SLOT)[:, :, None]
    own &= profiles["digest_days"][:, None, None] == 0  # nobody knows how likely they are to look at a time of their own choice
    share = np.where(own, profiles["window_share"][:, None, :], 0).max(axis=2).astype(np.float32)
    known = (share > 0) & (share[:, :1] > 0)
    return np.where(known, share / np.maximum(share[:, :1], 1), np.float32(1)).astype(np.float32)


def sent_before(ledger: LedgerColumns, profiles: Profiles, now: float) -> Before:
    """Return what users were sent by their ledgers, whose `user` are rows of `profiles`.

    Critical grants do not count, as they do not for budgets; grants dated after `now` do (another host's clock was ahead).
    """
    counts = np.flatnonzero(ledger.flags & CRITICAL == 0)
    user, at = ledger.user[counts], ledger.at[counts]
    times = local_times_of(profiles)
    today = local_quarters(times, int(now // SLOT_S)) // DAY_QUARTERS
    day = local_quarters(times.take(user), (at // SLOT_S).astype(np.int64)) // DAY_QUARTERS
    since_s = np.full(len(profiles), np.inf)
    np.minimum.at(since_s, user, np.maximum(now - at, 0.0))
    return Before(np.bincount(user[day >= today[user]], minlength=len(profiles)), since_s)


def plan_ahead(
    rows: Rows,
    lasting: Lasting,
    ahead: Ahead,
    before: Before,
    allowance: npt.NDArray[np.int16],
    now: float,
    decide: DecideConfig,
    config: PlanConfig,
) -> Plan:
    """Return what waits for a later window by a joint plan of each user's windows, and what may go now beside it.

    A row counts in a window if it is alive then, beats its threshold and keeps `decide.least_kept` of its value. Of an entity one row
    is planned, and all of its rows wait that can. What is planned for now, or not planned, is left to be decided within what remains.
    """
    places = np.clip(config.day_cap - before.today, 0, decide.top_n)
    places[before.since_s < config.least_gap_s] = 0
    later = np.full(len(rows.user), -np.inf, np.float32)
    if len(rows.user) == 0:
        return Plan(rows.value, later, allowance, places)
    entities = _places(rows, config.items)
    worth = np.where(too_soon(ahead, before, config)[rows.user], np.float32(-1), _worth(rows, lasting, ahead, now, decide, config))
    value, promised = _table(rows, entities, worth, lasting.promised, allowance.shape[1])
    choices = _choices(value, entities.users, ahead, before, allowance, decide, config)
    cell = assign(choices, config.assign, promised)
    window, channel = np.divmod(cell, allowance.shape[1])
    planned = window[entities.user, entities.item]
    waiting = np.flatnonzero(planned >= 1)
    kept = entities.kept[waiting]
    later[kept] = np.where(worth[kept, planned[waiting]] > 0, worth[kept, planned[waiting]], -np.inf)
    user, item = np.nonzero(window >= 1)
    left = allowance.copy()
    np.subtract.at(left, (entities.users[user], channel[user, item]), 1)
    same_day = choices.day[user, window[user, item]] == choices.day[user, 0]
    np.subtract.at(places, entities.users[user[same_day]], 1)
    places[entities.users[user[choices.near[user, 0, window[user, item]]]]] = 0
    kept_word = np.where(lasting.promised & (rows.value >= rows.threshold), np.float32(1 + config.assign.promise_bonus), np.float32(1))
    return Plan(rows.value * kept_word, later * kept_word, np.maximum(left, 0), np.maximum(places, 0))


def too_soon(ahead: Ahead, before: Before, config: PlanConfig) -> Bools:
    """Return which windows, (users, windows + 1), open less than `least_gap_s` after what was sent before."""
    return np.asarray(before.since_s[:, None] + ahead.wait_s < config.least_gap_s, np.bool_)


def _table(rows: Rows, entities: _Places, worth: F32, promised: Bools, channels: int) -> tuple[F32, Bools]:
    """Return what each user's entities are worth, (users, items, windows, channels), and which of them were promised before."""
    at, kept, shape = (entities.user, entities.item), entities.kept, (len(entities.users), int(entities.item.max()) + 1, channels)
    best = np.full((shape[0] * shape[1] * channels, worth.shape[1]), np.float32(-1))
    np.maximum.at(best, np.ravel_multi_index((*at, rows.channel[kept].astype(np.int64)), shape), worth[kept])
    value = best.reshape(*shape, -1).transpose(0, 1, 3, 2)
    before = np.zeros(value.shape[:2], bool)
    np.logical_or.at(before, at, promised[kept])
    return value, before


def _choices(
    value: F32,
    users: npt.NDArray[np.int32],
    ahead: Ahead,
    before: Before,
    allowance: npt.NDArray[np.int16],
    decide: DecideConfig,
    config: PlanConfig,
) -> Choices:
    """Return what may be planned for `users`, under what is left of their budgets, of today's cap and of their windows."""
    wait_s = np.where(np.isfinite(ahead.wait_s[users]), ahead.wait_s[users], np.arange(value.shape[2]) * 1e9 + 1e12)
    near = np.abs(wait_s[:, :, None] - wait_s[:, None, :]) < config.least_gap_s
    day = np.cumsum(np.diff(ahead.day[users], axis=1, prepend=ahead.day[users, :1]) != 0, axis=1)
    day_cap = np.maximum(config.day_cap - np.where(day == 0, before.today[users][:, None], 0), 0)
    return Choices(value, np.maximum(allowance[users], 0), day, day_cap, decide.top_n, near)


def _worth(rows: Rows, lasting: Lasting, ahead: Ahead, now: float, decide: DecideConfig, config: PlanConfig) -> F32:
    """Return what rows are worth in each of their user's windows, (n, windows), -1 where they must not go."""
    wait_s = ahead.wait_s[rows.user]
    likely = np.clip(ahead.likely, 1 / config.most_by_hour, config.most_by_hour)
    worth = rows.value[:, None] * np.exp2(-wait_s / lasting.half_life_s[:, None]) * likely[rows.user]
    alive = (now + wait_s < lasting.expires_at[:, None]) & np.isfinite(wait_s)
    enough = (worth >= rows.threshold[:, None]) & ((worth >= decide.least_kept * rows.value[:, None]) | (wait_s == 0))
    return np.where(alive & enough & ~rows.critical[:, None], worth, -1).astype(np.float32)


def _places(rows: Rows, most_items: int) -> _Places:
    """Return a place for each user's most valuable entities, and all their rows."""
    by_worth = np.lexsort((-rows.value, rows.user))
    frame = pd.DataFrame({"user": rows.user[by_worth], "entity": rows.entity[by_worth]})
    entities = frame[~frame.duplicated()]
    item = entities.groupby("user").cumcount()
    place = pd.MultiIndex.from_frame(entities).get_indexer(pd.MultiIndex.from_frame(frame))
    of_row = np.asarray(item.to_numpy(np.int64)[place], np.int64)
    chosen = of_row < most_items
    users, user = np.unique(frame["user"].to_numpy()[chosen], return_inverse=True)
    return _Places(users, user, of_row[chosen], by_worth[chosen])
