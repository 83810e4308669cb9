"""The compiled steps of `assignment.py`: how a plan is filled, and how it is disturbed to be filled again."""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.compiled import compiled


def _next_random(state: Any) -> Any:
    """Return a number in [0, 1) by xorshift (Marsaglia 2003); the same sequence for every user, whatever the batch."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return (x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


random: Any = compiled(_next_random)


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


count: Any = compiled(_count_row)


def _drop_item(item: Any, rows: Any, chosen: Any, limits: Any, counts: Any) -> None:
    count(rows[chosen[item], 1], rows[chosen[item], 2], limits, counts, -1)
    chosen[item] = -1


drop: Any = compiled(_drop_item)


def _force_row(row: Any, rows: Any, chosen: Any, limits: Any, counts: Any) -> None:
    """Plan a row and put out what keeps it out: its item's own row, what is too near, the least of a full window, day, channel.

    Rows are in the order of their value, so the least valuable is the last.
    """
    budget, day, near, day_cap, window_cap = limits
    item, at, channel = rows[row, 0], rows[row, 1], rows[row, 2]
    for other in range(len(chosen)):
        held = chosen[other]
        if held >= 0 and (other == item or (rows[held, 1] != at and near[at, rows[held, 1]])):
            drop(other, rows, chosen, limits, counts)
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
            drop(rows[least, 0], rows, chosen, limits, counts)
    chosen[item] = row
    count(at, channel, limits, counts, 1)


_force: Any = compiled(_force_row)


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
        if room & (counts[3, at] == 0) & (chosen[item] < 0) and (blink == 0 or random(state) >= blink):
            chosen[item] = row
            count(at, channel, limits, counts, 1)
            units -= 1
            items -= 1
    worth = 0.0
    for held in chosen:
        if held >= 0:
            worth += value[held]
    return worth


fill: Any = compiled(_fill_gaps)


def _disturb_plan(rows: Any, chosen: Any, limits: Any, counts: Any, state: Any) -> None:
    """Force in a row that is not planned, good ones more often, or put out one to three that are."""
    if random(state) < 0.6:
        row = int(len(rows) * random(state) * random(state))
        if chosen[rows[row, 0]] != row:
            _force(row, rows, chosen, limits, counts)
        return
    planned = 0
    for held in chosen:
        planned += held >= 0
    for _ in range(1 + int(3 * random(state))):
        place = int(planned * random(state))
        for item in range(len(chosen)):
            if chosen[item] >= 0:
                if place == 0:
                    drop(item, rows, chosen, limits, counts)
                    planned -= 1
                    break
                place -= 1


disturb: Any = compiled(_disturb_plan)
