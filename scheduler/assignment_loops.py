"""The compiled loops of `assignment.py`: they let go of the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_BLINK = 0.12
"""How often a row is passed over when gaps are filled."""


def _next_random(state: Any) -> Any:
    """Return a number in [0, 1) by xorshift (Marsaglia 2003); the same sequence for every user, whatever the batch."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return (x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


_random: Any = numba.njit(_next_random, cache=True)


def _count_row(at: Any, channel: Any, limits: Any, counts: Any, step: Any) -> None:
    """Count a row of a window and channel in (step 1) or out (-1): per window, day, channel, and used windows near each window."""
    _, day, near, _, _ = limits
    counts[0, at] += step
    counts[1, day[at]] += step
    counts[2, channel] += step
    if counts[0, at] == (step + 1) // 2:
        for other in range(len(day)):
            if near[at, other] and other != at:
                counts[3, other] += step


_count: Any = numba.njit(_count_row, cache=True)


def _drop_item(item: Any, rows: Any, chosen: Any, limits: Any, counts: Any) -> None:
    _count(rows[chosen[item], 1], rows[chosen[item], 2], limits, counts, -1)
    chosen[item] = -1


_drop: Any = numba.njit(_drop_item, cache=True)


def _force_row(row: Any, rows: Any, chosen: Any, limits: Any, counts: Any) -> None:
    """Plan a row and put out what keeps it out: its item's own row, what is too near, the least of a full window, day, channel.

    Rows are in the order of their value, so the least valuable is the last.
    """
    budget, day, near, day_cap, window_cap = limits
    item, at, channel = rows[row, 0], rows[row, 1], rows[row, 2]
    for other in range(len(chosen)):
        held = chosen[other]
        if held >= 0 and (other == item or (rows[held, 1] != at and near[at, rows[held, 1]])):
            _drop(other, rows, chosen, limits, counts)
    for kind in range(3):
        if kind == 0:
            full = counts[0, at] >= window_cap
        elif kind == 1:
            full = counts[1, day[at]] >= day_cap[at]
        else:
            full = counts[2, channel] >= budget[channel]
        least = -1
        for other in range(len(chosen)):
            held = chosen[other]
            if full and held > least:
                same_day = day[rows[held, 1]] == day[at]
                if (kind == 0 and rows[held, 1] == at) or (kind == 1 and same_day) or (kind == 2 and rows[held, 2] == channel):
                    least = held
        if least >= 0:
            _drop(rows[least, 0], rows, chosen, limits, counts)
    chosen[item] = row
    _count(at, channel, limits, counts, 1)


_force: Any = numba.njit(_force_row, cache=True)


def _fill_gaps(rows: Any, value: Any, chosen: Any, limits: Any, counts: Any, state: Any, blink: Any) -> Any:
    """Add rows, best first, that fit, passing over a share `blink`; return the plan's worth."""
    budget, day, _, day_cap, window_cap = limits
    units, items = 0, 0
    for channel in range(len(budget)):
        units += budget[channel] - counts[2, channel]
    for held in chosen:
        items += held < 0
    for row in range(len(rows)):
        if units <= 0 or items == 0:
            break
        item, at, channel = rows[row, 0], rows[row, 1], rows[row, 2]
        room = (counts[0, at] < window_cap) & (counts[1, day[at]] < day_cap[at]) & (counts[2, channel] < budget[channel])
        if room & (counts[3, at] == 0) & (chosen[item] < 0) and (blink == 0 or _random(state) >= blink):
            chosen[item] = row
            _count(at, channel, limits, counts, 1)
            units -= 1
            items -= 1
    worth = 0.0
    for held in chosen:
        if held >= 0:
            worth += value[held]
    return worth


_fill: Any = numba.njit(_fill_gaps, cache=True)


def _disturb_plan(rows: Any, chosen: Any, limits: Any, counts: Any, state: Any) -> None:
    """Force in a row that is not planned, good ones more often, or put out one to three that are."""
    if _random(state) < 0.6:
        row = int(len(rows) * _random(state) * _random(state))
        if chosen[rows[row, 0]] != row:
            _force(row, rows, chosen, limits, counts)
        return
    planned = 0
    for held in chosen:
        planned += held >= 0
    for _ in range(1 + int(3 * _random(state))):
        place = int(planned * _random(state))
        for item in range(len(chosen)):
            if chosen[item] >= 0:
                if place == 0:
                    _drop(item, rows, chosen, limits, counts)
                    planned -= 1
                    break
                place -= 1


_disturb: Any = numba.njit(_disturb_plan, cache=True)


def _least_bound(rows: Any, value: Any, items: Any, limits: Any) -> Any:
    """Return what no plan is worth more than: the least of the bounds by one kind of limit alone, all units, channels, days, windows.

    Each is the worth of the best rows of different items within that limit, summed over the channels, days or windows.
    """
    budget, day, _, day_cap, window_cap = limits
    most = max(len(budget), len(day))
    seen, taken, bound = np.zeros((4, most, items), np.bool_), np.zeros((4, most), np.int64), np.zeros(4)
    units = 0
    for channel in range(len(budget)):
        units += budget[channel]
    for row in range(len(rows)):
        item, at, channel = rows[row, 0], rows[row, 1], rows[row, 2]
        for kind in range(4):
            if kind == 0:
                place, cap = 0, units
            elif kind == 1:
                place, cap = channel, budget[channel]
            elif kind == 2:
                place, cap = day[at], day_cap[at]
            else:
                place, cap = at, window_cap
            if taken[kind, place] < cap and not seen[kind, place, item]:
                seen[kind, place, item] = True
                taken[kind, place] += 1
                bound[kind] += value[row]
    return bound.min()


_bound: Any = numba.njit(_least_bound, cache=True)


def _plan_one_user(rows: Any, value: Any, items: Any, limits: Any, rounds: Any, slack: Any, gap: Any) -> Any:
    """Return the best plan found: each item's place among `rows`, or -1."""
    counts = np.zeros((4, max(len(limits[0]), len(limits[1]))), np.int64)
    chosen, state = np.full(items, -1), np.array([88172645463325252], np.uint64)
    best_worth = _fill(rows, value, chosen, limits, counts, state, 0.0)
    best, kept, kept_counts, now_worth = chosen.copy(), chosen.copy(), counts.copy(), best_worth
    bound = _bound(rows, value, items, limits)
    for turn in range(rounds[1]):
        if best_worth >= bound * (1 - 1e-6) or (turn >= rounds[0] and best_worth >= bound * (1 - gap)):
            break
        _disturb(rows, chosen, limits, counts, state)
        worth = _fill(rows, value, chosen, limits, counts, state, _BLINK)
        if worth >= now_worth or worth >= best_worth * (1 - slack * (1 - turn / rounds[1])):
            kept[:] = chosen
            kept_counts[:] = counts
            now_worth = worth
            if worth > best_worth:
                best[:] = chosen
                best_worth = worth
        else:
            chosen[:] = kept
            counts[:] = kept_counts
    return best


_plan_one: Any = numba.njit(_plan_one_user, cache=True)


def _rows_of(value: Any, order: Any, limits: Any, rows: Any, worth: Any) -> Any:
    """Write a user's rows that an optimal plan may need, best first: item, window, channel, and their worth; return how many.

    Of a cell only as many as the plan has sends at most: any beyond could be exchanged for one of those that is not planned.
    """
    budget, _, _, day_cap, window_cap = limits
    channels, cells = len(budget), value.shape[1]
    most = 0
    for channel in range(channels):
        most += budget[channel]
    taken, kept = np.zeros(cells, np.int64), 0
    for place in order:
        item, cell = place // cells, place % cells
        if value[item, cell] <= 0:
            break
        if taken[cell] < most and budget[cell % channels] > 0 and day_cap[cell // channels] > 0 and window_cap > 0:
            taken[cell] += 1
            rows[kept, 0], rows[kept, 1], rows[kept, 2] = item, cell // channels, cell % channels
            worth[kept] = value[item, cell]
            kept += 1
    return kept


_rows: Any = numba.njit(_rows_of, cache=True)


def _plan_users(value: Any, order: Any, of_users: Any, window_cap: Any, rounds: Any, slack: Any, gap: Any, plan: Any) -> None:
    budget, day, near, day_cap = of_users
    rows, worth = np.empty((order.shape[1], 3), np.int64), np.empty(order.shape[1], np.float64)
    for user in range(len(value)):
        limits = (budget[user], day[user], near[user], day_cap[user], window_cap)
        kept = _rows(value[user], order[user], limits, rows, worth)
        if kept == 0:
            continue
        best = _plan_one(rows[:kept], worth, value.shape[1], limits, rounds, slack, gap)
        for item in range(len(best)):
            if best[item] >= 0:
                plan[user, item] = rows[best[item], 1] * budget.shape[1] + rows[best[item], 2]


plan_all: Any = numba.njit(_plan_users, cache=True, nogil=True)
