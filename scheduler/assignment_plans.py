"""The compiled loops of `assignment.py`: users' plans, one after another, without the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.compiled import compiled
from scheduler.assignment_exact import search, tighten
from scheduler.assignment_loops import disturb, fill

_BLINK = 0.12
"""How often a row is passed over when gaps are filled."""


def _improve_plan(rows: Any, value: Any, chosen: Any, limits: Any, rounds: Any, enough: Any, slack: Any) -> Any:
    """Fill a plan and improve it in `rounds` attempts or until it is worth `enough`; `chosen` is then the best found. Return its worth."""
    counts = np.zeros((4, max(len(limits[0]), len(limits[1]))), np.int64)
    state = np.array([88172645463325252], np.uint64)
    best_worth = fill(rows, value, chosen, limits, counts, state, 0.0)
    best, kept, kept_counts, now_worth = chosen.copy(), chosen.copy(), counts.copy(), best_worth
    for turn in range(rounds):
        if best_worth >= enough:
            break
        disturb(rows, chosen, limits, counts, state)
        worth = fill(rows, value, chosen, limits, counts, state, _BLINK)
        if worth >= now_worth or worth >= best_worth * (1 - slack * (1 - turn / rounds)):
            kept[:] = chosen
            kept_counts[:] = counts
            now_worth = worth
            if worth > best_worth:
                best[:] = chosen
                best_worth = worth
        else:
            chosen[:] = kept
            counts[:] = kept_counts
    chosen[:] = best
    return best_worth


_improve: Any = compiled(_improve_plan)


def _plan_one_user(rows: Any, value: Any, items: Any, limits: Any, effort: Any) -> Any:
    """Return the best plan found: each item's place among `rows`, or -1."""
    rounds, most_rounds, gap, slack, nodes = effort
    chosen = np.full(items, -1)
    worth = _improve(rows, value, chosen, limits, rounds, np.inf, slack)
    left, bound, regret, base = tighten(rows, value, items, limits, worth, gap)
    if bound <= worth * (1 + gap):
        return chosen
    done, found = search(rows, value, left, regret, base, bound, chosen, limits, worth, gap, nodes)
    if not done and most_rounds > rounds:
        again = np.full(items, -1)
        if _improve(rows, value, again, limits, most_rounds, bound, slack) > found:
            return again
    return chosen


_plan_one: Any = compiled(_plan_one_user)


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


_rows: Any = compiled(_rows_of)


def _plan_users(value: Any, order: Any, of_users: Any, window_cap: Any, effort: Any, plan: Any) -> None:
    budget, day, near, day_cap = of_users
    rows, worth = np.empty((order.shape[1], 3), np.int64), np.empty(order.shape[1], np.float64)
    for user in range(len(value)):
        limits = (budget[user], day[user], near[user], day_cap[user], window_cap)
        kept = _rows(value[user], order[user], limits, rows, worth)
        if kept == 0:
            continue
        best = _plan_one(rows[:kept], worth[:kept], value.shape[1], limits, effort)
        for item in range(len(best)):
            if best[item] >= 0:
                plan[user, item] = rows[best[item], 1] * budget.shape[1] + rows[best[item], 2]


plan_all: Any = compiled(_plan_users)
