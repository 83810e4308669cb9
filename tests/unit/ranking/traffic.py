"""Days of made-up feature rows, a model that reads all of them, and a guard that has watched some weeks, for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import xgboost as xgb

from ranking.blocks import Matrix
from ranking.bundle import Bundle, Window
from ranking.calibration import Calibration
from ranking.features import FEATURES, USER_FEATURES
from ranking.guard import Guard, GuardRule
from ranking.opt_out import OptOut
from ranking.reference import Reference
from ranking.relief import Relief, Relieving, scores_of
from ranking.steadying import draws_of

DAY_S = 86400.0
USERS, EACH, JOBS = 180, 8, 6
"""Users with a window each day, their candidates, and the jobs that the day's rows come in."""
RULE = GuardRule(sample_rows=240, rows_per_minute=10**6, block_rows=240, cell_s=DAY_S / JOBS, cells=7 * JOBS, least_cells=3 * JOBS)


@dataclass(frozen=True)
class World:
    """People whose features differ, and days that differ a little."""

    seed: int = 0

    @cached_property
    def people(self) -> Matrix:
        return np.random.default_rng(self.seed).normal(size=(USERS, len(FEATURES))).astype(np.float32)

    def day(self, number: int) -> Matrix:
        """Return a day's rows, users one after the other: counts, many of them nothing, some missing, ages and likenesses."""
        random = np.random.default_rng((self.seed, number))
        n, width = USERS * EACH, len(FEATURES)
        drawn = random.normal(size=(n, width)) + random.normal(0, 0.05, width)
        mine = np.repeat(self.people[:, : len(USER_FEATURES)], EACH, axis=0)
        drawn[:, : len(USER_FEATURES)] = 0.3 * drawn[:, : len(USER_FEATURES)] + mine
        kind = np.arange(width) % 4
        drawn[:, kind == 0] = np.exp(drawn[:, kind == 0])
        drawn[:, kind == 1] = np.maximum(np.round(3 * drawn[:, kind == 1]), 0)
        drawn[:, kind == 2] += 2
        some = random.random((n, width)) < np.where(np.arange(width) % 8 == 3, 0.3, 0.0)
        return np.ascontiguousarray(np.where(some, np.nan, drawn).astype(np.float32))


@cache
def model() -> Bundle:
    """Return a model of what people like, learned from the first days; a third of the features matter a lot."""
    rows = np.concatenate([World().day(number) for number in range(8)])
    random = np.random.default_rng(1)
    weight = random.normal(size=len(FEATURES)) * np.where(np.arange(len(FEATURES)) % 3 == 0, 1.0, 0.2)
    z = np.nan_to_num(rows - np.nanmean(rows, axis=0)) / np.nanstd(rows, axis=0)
    label = random.random(len(rows)) < 1 / (1 + np.exp(2.5 - 0.6 * z @ weight))
    shape = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "eta": 0.2}
    booster = xgb.train(shape, xgb.DMatrix(rows, label, feature_names=list(FEATURES)), 40)
    curve = Calibration(np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))
    plain = Bundle("model", booster, curve, ("in_app",), Window(0.0, 1.0), {}, 1.0, OptOut())
    return replace(plain, normal=Reference.of(rows, scores_of(plain, rows)))


@dataclass
class Watched:
    """A guard and what ranks under it, fed day by day."""

    guard: Guard
    relieving: Relieving
    relief: Relief | None = None
    was_out: bool = False

    def score(self, rows: Matrix, number: int, raw: Matrix | None = None) -> Matrix:
        """Return the values of a day's rows as a replica would give them, job by job; `raw`: what the model says, where known."""
        raw = scores_of(model(), rows) if raw is None else raw
        found = np.empty(len(rows), np.float32)
        for job, places in enumerate(np.split(np.arange(len(rows)), JOBS)):
            mine, scores = rows[places], raw[places]
            if self.relief is not None:
                answered = scores_of(self.relief.bundle, self.relief.rows(mine))
                found[places] = self.relief.scores(answered[:, 0], answered[:, 1], draws_of(mine))[1]
            else:
                found[places] = scores[:, 1]
            block = self.guard.see(mine, scores, USERS // JOBS, len(mine), number * DAY_S + job * RULE.cell_s)
            if block is not None:
                packed = self.relieving.after(block, self.guard, model(), None, number * DAY_S + job * RULE.cell_s)
                self.relief = Relief.unpacked(packed, lambda _: model()) if packed else None
                self.was_out |= self.guard.is_tripped
        return found


def watched(days: range, seed: int = 0) -> Watched:
    """Return a guard that has watched some days on which all was well."""
    normal = model().normal
    assert normal is not None
    found = Watched(Guard(normal, RULE), Relieving())
    for number in days:
        found.score(World(seed).day(number), number)
    return found
