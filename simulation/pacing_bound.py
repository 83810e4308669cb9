"""What deciding day by day can earn: dynamic programs that know how each user's days are distributed, but not which comes next.

What a day offers that is new is taken for drawn from the user's own counted days, so the programs know more than anybody who has to learn
does. They plan for ever, so that a run of a week or two can be beaten by whoever spends more towards its end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt

from budgets.approach import PERIOD_DAYS
from simulation.pacing import Earned, Offered, PacingWorld, best_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SWEEPS = 40
"""Days that the program for rolling weeks looks ahead; twenty more change its earnings by less than one in a thousand."""


def gains_of(today: Offered, score: Floats, config: PacingWorld) -> Floats:
    """Return what the best 0, 1, … `top_n` of a day are worth to each user, (users, top_n + 1)."""
    order = np.lexsort((-score, today.user))
    user = today.user[order]
    rank = np.arange(len(user)) - np.searchsorted(user, user)
    within, best = rank < config.top_n, np.zeros((config.users, config.top_n + 1))
    best[user[within], rank[within] + 1] = np.maximum(score[order][within], 0.0)
    return np.asarray(best.cumsum(axis=1))


def rolling(rows: Offered, config: PacingWorld) -> Earned:
    """Return what such a program earns under the limit that the ledger has: `budget` in any 7 days."""
    days, after = _states(config)
    worth = np.zeros((config.users, len(days)))
    samples = _samples(rows, config)
    for _ in range(SWEEPS):
        ahead = np.where(after < 0, -np.inf, worth[:, after])
        worth = sum((day[:, None, :] + ahead).max(axis=2) for day in samples) / len(samples)
        worth -= worth[:, :1]
    ahead = np.where(after < 0, -np.inf, worth[:, after])
    state, everybody = np.zeros(config.users, np.int64), np.arange(config.users)

    def left(_: int) -> Floats:
        return np.asarray(ahead[everybody, state])

    def sent(units: Ints) -> None:
        state[:] = after[state, units]

    return _played(rows, config, 0, left, sent)


def calendar(rows: Offered, config: PacingWorld) -> Earned:
    """Return what such a program earns under the limit that hindsight has: `budget` from Monday to Sunday."""
    samples = np.stack(_samples(rows, config))
    worth = np.zeros((PERIOD_DAYS + 1, config.users, config.budget + 1))
    for day in reversed(range(PERIOD_DAYS)):
        for units in range(config.budget + 1):
            some = np.arange(min(config.top_n, units) + 1)
            worth[day, :, units] = (samples[:, :, some] + worth[day + 1][:, units - some]).max(axis=2).mean(axis=0)
    free, everybody, some = np.full(config.users, config.budget), np.arange(config.users)[:, None], np.arange(config.top_n + 1)

    def left(day: int) -> Floats:
        if day % PERIOD_DAYS == 0:
            free[:] = config.budget
        rest = free[:, None] - some
        return np.where(rest < 0, -np.inf, worth[day % PERIOD_DAYS + 1][everybody, np.maximum(rest, 0)])

    def sent(units: Ints) -> None:
        free[:] -= units

    return _played(rows, config, config.calm_weeks * PERIOD_DAYS, left, sent)


def _played(rows: Offered, config: PacingWorld, start: int, left: Callable[[int], Floats], sent: Callable[[Ints], None]) -> Earned:
    """Return what is earned by sending each day as many as are worth most with what is `left` after them, (users, top_n + 1)."""
    value, sends, told = 0.0, 0, np.empty(0, np.int64)
    for day in range(start, (config.calm_weeks + config.weeks) * PERIOD_DAYS):
        today = rows.take(rows.day == day)
        score = np.where(np.isin(today.pair, told), -np.inf, today.score)
        units = (gains_of(today, score, config) + left(day)).argmax(axis=1)
        taken = best_of(today, score, units, config.top_n)
        spent = np.bincount(today.user[taken], minlength=config.users)
        sent(spent)
        told = np.concatenate([told, today.pair[taken]])
        if day >= config.calm_weeks * PERIOD_DAYS:
            value, sends = value + float(today.chance[taken].sum()), sends + int(spent.sum())
    return Earned(value, sends)


def _samples(rows: Offered, config: PacingWorld) -> list[Floats]:
    """Return what each counted day is worth by what is new, (users, top_n + 1) each; rows are in the order of time."""
    is_new = np.zeros(len(rows), bool)
    is_new[np.unique(rows.pair, return_index=True)[1]] = True
    new = np.where(is_new, rows.score, -np.inf)
    first = config.calm_weeks * PERIOD_DAYS
    days = (rows.day == day for day in range(first, first + config.weeks * PERIOD_DAYS))
    return [gains_of(rows.take(day), new[day], config) for day in days]


def _states(config: PacingWorld) -> tuple[Ints, npt.NDArray[np.int64]]:
    """Return the sends of six days that the limit allows, oldest first, (states, 6), and the state after each number sent, -1: none."""
    allowed = [days for days in product(range(config.top_n + 1), repeat=PERIOD_DAYS - 1) if sum(days) <= config.budget]
    place = {days: number for number, days in enumerate(allowed)}
    after = [[place.get((*days[1:], k), -1) if sum(days) + k <= config.budget else -1 for k in range(config.top_n + 1)] for days in allowed]
    return np.array(allowed), np.array(after)
