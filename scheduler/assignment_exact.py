"""The compiled end of `assignment.py`: a bound on what a plan can be worth, and a search of what the bound leaves open.

The limits of channels, days and windows are paid for by prices (Lagrangian relaxation; prices by subgradient steps of Polyak's length), so
that each item simply takes the row that is worth most beyond its price. That sum bounds every plan, and a row whose taking would bring the
bound under the best plan known is in no better one. The few rows left are searched depth first, by what each choice loses of the bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.compiled import compiled
from scheduler.assignment_loops import count

_STEPS = 70
"""Most steps of the prices."""
_PATIENCE = 4
"""Steps without a lower bound after which they are halved."""


def _cliques_of(near: Any) -> Any:
    """Return sets of windows, bool (sets, windows), of which only one can be used: every window is in one, so window_cap limits each."""
    windows = len(near)
    sets, n = np.zeros((windows, windows), np.bool_), 0
    for first in range(windows):
        sets[n] = False
        sets[n, first] = True
        for other in range(windows):
            fits = other != first
            for member in range(windows):
                fits = fits and (not sets[n, member] or near[other, member])
            sets[n, other] = sets[n, other] or fits
        known = False
        for before in range(n):
            inside = True
            for member in range(windows):
                inside = inside and (sets[before, member] or not sets[n, member])
            known = known or inside
        n += not known
    return sets[:n]


_cliques: Any = compiled(_cliques_of)


def _price_cells(prices: Any, sets: Any, limits: Any, price: Any) -> Any:
    """Write what each window and channel costs; return what all that the limits allow costs."""
    budget, day, _, day_cap, window_cap = limits
    channels, windows, allowed = len(budget), len(day), 0.0
    for channel in range(channels):
        allowed += prices[channel] * budget[channel]
        price[:, channel] = prices[channel]
    seen = np.zeros(windows, np.bool_)
    for window in range(windows):
        cost = prices[channels + day[window]]
        if not seen[day[window]]:
            seen[day[window]] = True
            allowed += cost * day_cap[window]
        for clique in range(len(sets)):
            if sets[clique, window]:
                cost += prices[channels + windows + clique]
        for channel in range(channels):
            price[window, channel] += cost
    for clique in range(len(sets)):
        allowed += prices[channels + windows + clique] * window_cap
    return allowed


_priced: Any = compiled(_price_cells)


def _take_best(rows: Any, value: Any, left: Any, price: Any, best: Any, taken: Any) -> Any:
    """Write what each item is worth beyond its price, and by which row (-1: nothing); return the sum."""
    best[:] = 0.0
    taken[:] = -1
    for row in left:
        beyond = value[row] - price[rows[row, 1], rows[row, 2]]
        if beyond > best[rows[row, 0]]:
            best[rows[row, 0]] = beyond
            taken[rows[row, 0]] = row
    return best.sum()


_best: Any = compiled(_take_best)


def _excess(rows: Any, taken: Any, sets: Any, limits: Any, prices: Any, over: Any) -> Any:
    """Write by how much each limit is exceeded, 0 where one that costs nothing holds; return the sum of squares."""
    budget, day, _, day_cap, window_cap = limits
    channels, windows = len(budget), len(day)
    over[:channels] = -budget
    over[channels:] = 0
    for window in range(windows):
        over[channels + day[window]] = -day_cap[window]
    over[channels + windows :] = -window_cap
    for row in taken:
        if row >= 0:
            at = rows[row, 1]
            over[rows[row, 2]] += 1
            over[channels + day[at]] += 1
            for clique in range(len(sets)):
                over[channels + windows + clique] += sets[clique, at]
    size = 0.0
    for place in range(len(over)):
        if prices[place] <= 0 and over[place] < 0:
            over[place] = 0
        size += over[place] ** 2
    return size


_over: Any = compiled(_excess)


def _tightened(rows: Any, value: Any, items: Any, limits: Any, worth: Any, gap: Any) -> Any:
    """Return the rows that a plan worth over `worth * (1 + gap)` may have, the least bound found, and at its prices what each row loses
    beside its item's best, and what each item loses by taking nothing.
    """
    sets = _cliques(limits[2])
    channels, windows = len(limits[0]), len(limits[1])
    prices = np.zeros(channels + windows + len(sets))
    kept_prices, over = prices.copy(), np.zeros(len(prices))
    price, best, taken = np.zeros((windows, channels)), np.zeros(items), np.full(items, -1)
    left, bound, length, stale = np.arange(len(rows)), np.inf, 1.0, 0
    for _ in range(_STEPS):
        now = _priced(prices, sets, limits, price) + _best(rows, value, left, price, best, taken)
        if now < bound - 1e-9:
            bound, stale = now, 0
            kept_prices[:] = prices
            n = 0
            for row in left:
                loses = best[rows[row, 0]] - value[row] + price[rows[row, 1], rows[row, 2]]
                if now - loses > worth * (1 + gap):
                    left[n] = row
                    n += 1
            left = left[:n]
            if bound <= worth * (1 + gap):
                break
        else:
            stale += 1
            if stale >= _PATIENCE:
                stale, length = 0, length / 2
        size = _over(rows, taken, sets, limits, prices, over)
        if size == 0 or length < 0.02:
            break
        step = length * max(now - worth, 1e-3 * worth) / size
        for place in range(len(prices)):
            prices[place] = max(prices[place] + step * over[place], 0.0)
    bound = min(bound, _priced(kept_prices, sets, limits, price) + _best(rows, value, left, price, best, taken))
    regret = np.empty(len(left))
    for place, row in enumerate(left):
        regret[place] = best[rows[row, 0]] - value[row] + price[rows[row, 1], rows[row, 2]]
    return left, bound, regret, best


tighten: Any = compiled(_tightened)


def _fits(row: Any, rows: Any, limits: Any, counts: Any) -> Any:
    budget, day, _, day_cap, window_cap = limits
    at, channel = rows[row, 1], rows[row, 2]
    free = counts[0, at] < window_cap and counts[1, day[at]] < day_cap[at] and counts[2, channel] < budget[channel]
    return free and counts[3, at] == 0


_room: Any = compiled(_fits)


def _options_of(rows: Any, left: Any, regret: Any, base: Any) -> Any:
    """Return the rows that are left item by item, least loss first, what each loses, and where each item's begin; the items that have any,
    those that lose most by taking nothing first.
    """
    order = np.argsort(-base)
    by_item, loss, begins, n = np.empty(len(left), np.int64), np.empty(len(left)), [0], 0
    of_items = [0]
    of_items.pop()
    ranked = np.argsort(regret)
    for item in order:
        before = n
        for place in ranked:
            if rows[left[place], 0] == item:
                by_item[n], loss[n] = left[place], regret[place]
                n += 1
        if n > before:
            begins.append(n)
            of_items.append(item)
    return by_item, loss, np.array(begins), np.array(of_items)


_options: Any = compiled(_options_of)


def _searched(
    rows: Any, value: Any, left: Any, regret: Any, base: Any, bound: Any, chosen: Any, limits: Any, worth: Any, gap: Any, nodes: Any
) -> Any:
    """Put the best plan of the rows left into `chosen` where it is worth over `worth * (1 + gap)`; return whether all was searched within
    `nodes` choices, and what the plan is worth. `base`: what each item loses by taking nothing.
    """
    by_item, loss, begins, of_items = _options(rows, left, regret, base)
    depth, most = 0, len(of_items)
    at, lost, gained = begins[:-1].copy(), np.zeros(most + 1), np.zeros(most + 1)
    plan, counts = np.full(len(chosen), -1), np.zeros((4, max(len(limits[0]), len(limits[1]))), np.int64)
    for _ in range(nodes):
        if depth == most:
            if gained[depth] > worth:
                worth = gained[depth]
                chosen[:] = plan
            depth -= 1
        if depth < 0:
            return True, worth
        item = of_items[depth]
        if plan[item] >= 0:
            count(rows[plan[item], 1], rows[plan[item], 2], limits, counts, -1)
            plan[item] = -1
        may_lose = bound - worth * (1 + gap) - lost[depth]
        if at[depth] < begins[depth + 1]:
            row = by_item[at[depth]]
            if loss[at[depth]] >= may_lose:
                at[depth] = begins[depth + 1]
                continue
            at[depth] += 1
            if not _room(row, rows, limits, counts):
                continue
            plan[item] = row
            count(rows[row, 1], rows[row, 2], limits, counts, 1)
            lost[depth + 1], gained[depth + 1] = lost[depth] + loss[at[depth] - 1], gained[depth] + value[row]
        elif at[depth] == begins[depth + 1] and base[item] < may_lose:
            at[depth] += 1
            lost[depth + 1], gained[depth + 1] = lost[depth] + base[item], gained[depth]
        else:
            at[depth] = begins[depth]
            depth -= 1
            continue
        depth += 1
    return False, worth


search: Any = compiled(_searched)
