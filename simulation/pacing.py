"""What a week's budget earns when spent as things come, over what it would have earned had all of the week been known in advance.

A world's candidates of some weeks, a ranker with known errors, and readers who never tire: what is compared is when to spend, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from budgets.approach import PERIOD_DAYS
from budgets.paced import PacedController
from budgets.thresholds import Cells, Controller, DayOfCells, SteeredController
from budgets.thresholds import threshold as threshold_of
from simulation.offers import NoisyRanker, draw
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, WorldParameters

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PacingPolicy = Literal["greedy", "fixed", "steered", "paced"]
POLICIES = cast(tuple[PacingPolicy, ...], get_args(PacingPolicy))
ITEMS_A_WEEK = 190
HOUR_S = 12 * 3600
CONTROLLERS: dict[PacingPolicy, tuple[Controller[Any], float]] = {"steered": (SteeredController(), 0.8), "paced": (PacedController(), 1.0)}
"""Thresholds that are kept, and the share of the ledger's limit that each aims at."""


@dataclass(frozen=True)
class PacingWorld:
    """`budget`: sends per user and any 7 days; hindsight has as many from Monday to Sunday. `calm_weeks`: to learn from before `weeks` are
    counted. `top_n`: most of a day. `per_user`: candidates of a user and day.
    """

    users: int = 200
    weeks: int = 4
    calm_weeks: int = 3
    seed: int = 1
    budget: int = 5
    top_n: int = 3
    per_user: int = 12


@dataclass(frozen=True)
class Offered:
    """Rows of several days, (n,) each: `day` since the world began, `user`, `item`, the ranker's `score`, and the true `chance`."""

    day: Ints
    user: Ints
    item: Ints
    score: Floats
    chance: Floats

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: Bools) -> Offered:
        """Return some of the rows."""
        return Offered(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @cached_property
    def pair(self) -> Ints:
        """What is one thing told to one user."""
        return self.user << 32 | self.item


def offered(config: PacingWorld) -> Offered:
    """Return everything that a world offers, day by day, with what a ranker with known errors says of it."""
    weeks = config.calm_weeks + config.weeks
    world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
    ranker, rng, everybody = NoisyRanker(world, seed=config.seed), stream(config.seed, "pacing"), np.arange(config.users)
    days = []
    for day in range(weeks * PERIOD_DAYS):
        now = world.params.start_at + day * DAY_S + HOUR_S
        offers = draw(world, everybody, now, config.per_user, rng)
        odds = ranker.log_odds(offers.user, offers.item, now)
        days.append(Offered(np.full(len(offers), day), offers.user, offers.item, 1 / (1 + np.exp(-odds)), offers.chance))
    return Offered(*(np.concatenate([getattr(part, name) for part in days]) for name in Offered.__dataclass_fields__))


def best_of(rows: Offered, score: Floats, units: Ints, top_n: int) -> Bools:
    """Return which rows are taken: the best first, at most `units` (users,) of each user and `top_n` of a day, no item twice."""
    taken, is_open, left = np.zeros(len(rows), bool), np.isfinite(score), units.copy()
    while (is_open := is_open & (left[rows.user] > 0)).any():
        places = np.flatnonzero(is_open)
        order = places[np.lexsort((-score[places], rows.user[places]))]
        best = order[np.diff(rows.user[order], prepend=-1) != 0]
        taken[best], left = True, left - np.bincount(rows.user[best], minlength=len(left))
        day = rows.user * (rows.day.max() + 1) + rows.day
        is_full = np.bincount(day[taken], minlength=day.max() + 1)[day] >= top_n
        is_open &= ~np.isin(rows.pair, rows.pair[best]) & ~is_full
    return taken


def hindsight(rows: Offered, score: Floats, config: PacingWorld) -> float:
    """Return the value of the best that each week held, chosen by a score with all of the week at hand."""
    week, value = rows.day // PERIOD_DAYS, 0.0
    told = np.empty(0, np.int64)
    for number in range(config.calm_weeks, config.calm_weeks + config.weeks):
        here = week == number
        mine, of_week = rows.take(here), np.where(np.isin(rows.pair[here], told), -np.inf, score[here])
        taken = best_of(mine, of_week, np.full(config.users, config.budget), config.top_n)
        told = np.concatenate([told, mine.pair[taken]])
        value += float(mine.chance[taken].sum())
    return value


@dataclass(frozen=True)
class Earned:
    """Expected answers of the counted weeks, and the sends they took."""

    value: float
    sends: int


def online(rows: Offered, config: PacingWorld, threshold: Callable[[int], Floats], learn: Callable[[Offered, Floats], None]) -> Earned:
    """Return what is earned day by day by sending what beats each user's `threshold` of the day while the last 7 days leave units.

    `learn` is told each night what was offered and what each user was sent.
    """
    spent, value, sends = np.zeros((config.users, PERIOD_DAYS), np.int64), 0.0, 0
    told = np.empty(0, np.int64)
    for day in range((config.calm_weeks + config.weeks) * PERIOD_DAYS):
        units = config.budget - spent[:, 1:].sum(axis=1)
        today = rows.take(rows.day == day)
        worthy = (today.score >= threshold(day)[today.user]) & ~np.isin(today.pair, told)
        taken = best_of(today, np.where(worthy, today.score, -np.inf), units, config.top_n)
        sent = np.bincount(today.user[taken], minlength=config.users)
        spent, told = np.concatenate([spent[:, 1:], sent[:, None]], axis=1), np.concatenate([told, today.pair[taken]])
        if day >= config.calm_weeks * PERIOD_DAYS:
            value, sends = value + float(today.chance[taken].sum()), sends + int(sent.sum())
        learn(today, sent.astype(np.float64))
    return Earned(value, sends)


def earned(policy: PacingPolicy, rows: Offered, config: PacingWorld) -> Earned:
    """Return what a policy earns: everything that fits, one threshold for all from the calm weeks, or thresholds per user."""
    if policy in CONTROLLERS:
        return _kept(CONTROLLERS[policy], rows, config)
    least = _fixed(rows, config) if policy == "fixed" else -np.inf
    return online(rows, config, lambda _: np.full(config.users, least), lambda *_: None)


def _fixed(rows: Offered, config: PacingWorld) -> float:
    """Return the value that as many things of the calm weeks reached as the budgets allowed sends; a thing counts once, at its best."""
    calm = rows.take(rows.day < config.calm_weeks * PERIOD_DAYS)
    best = pd.Series(calm.score).groupby(calm.pair).max().to_numpy()
    return threshold_of(best, np.ones(len(best)), config.users * config.budget * config.calm_weeks)


def _kept(kept: tuple[Controller[Any], float], rows: Offered, config: PacingWorld) -> Earned:
    controller, share = kept
    cells = Cells(np.full(config.users, share * config.budget), np.zeros(config.users, np.int32))
    night = _Night(controller, cells, controller.start(cells))
    return online(rows, config, lambda _: night.controller.thresholds(night.state).astype(np.float64), night.pass_)


@dataclass
class _Night:
    """A controller that is told each day."""

    controller: Controller[Any]
    cells: Cells
    state: Any
    seen: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def pass_(self, today: Offered, sent: Floats) -> None:
        fresh, ones = ~np.isin(today.pair, self.seen), np.ones(len(today), np.float32)
        day = DayOfCells(today.user.astype(np.int32), today.score.astype(np.float32), fresh, sent, len(today) > 0, ones)
        self.state = self.controller.step(self.state, day, self.cells)
        self.seen = np.concatenate([self.seen, today.pair[fresh]])
