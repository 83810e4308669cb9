"""From a log to a bundle: draw rows, fit XGBoost with early stopping on later weeks, calibrate on still later ones, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from lake.dataset import Dataset
from lake.errors import InputError
from ranking.blocks import Matrix
from ranking.bundle import Window
from ranking.calibration import Calibration, fit
from ranking.evaluation import auc, expected_over_observed, log_loss, ndcg
from ranking.examples import Candidates, ExampleRule, Rows, draw, moments
from ranking.features import FEATURES, NO_CHANNEL
from ranking.join import features_at
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past

LEAST_POSITIVES = 20
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how far it is and out of how much."""


@dataclass(frozen=True)
class Shape:
    """What a model looks like: XGBoost parameters, the most trees, and how long early stopping waits, 0: for all of them."""

    parameters: dict[str, Any] = field(
        default_factory=lambda: {
            "max_depth": 5,
            "eta": 0.05,
            "min_child_weight": 10.0,
            "subsample": 0.8,
            "colsample_bytree": 0.6,
            "lambda": 5.0,
        }
    )
    most_trees: int = 400
    patience: int = 40


@dataclass(frozen=True)
class Split:
    """Rows by time: `early` fits, `middle` stops early, `late` calibrates and measures; each a mask over the rows."""

    early: npt.NDArray[np.bool_]
    middle: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]

    @staticmethod
    def of(at: npt.NDArray[np.float64]) -> Split:
        """Hold out the last sixth of the time, at least 2 and at most 8 weeks where there are that many."""
        start, end = float(at.min()), float(at.max())
        held_s = min(max((end - start) / 6, 14 * DAY_S), 56 * DAY_S, (end - start) / 2)
        late = at > end - held_s / 2
        middle = ~late & (at > end - held_s)
        return Split(~late & ~middle, middle, late)


@dataclass(frozen=True)
class Trained:
    """A fitted model with what it takes to write its bundle."""

    booster: xgb.Booster
    calibration: Calibration
    metrics: dict[str, Any]
    window: Window


def train(
    dataset: Dataset,
    until: float,
    *,
    trials: int = 0,
    rule: ExampleRule | None = None,
    shape: Shape | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Train on what a dataset, loaded up to `until` (seconds), tells; raises InputError where it tells too little.

    `shape`: of the model, by default `Shape()`. `trials`: how many further shapes to try; the one with the best NDCG on
    later weeks is taken.
    """
    rule, told = rule or ExampleRule(), progress or (lambda _what, _done, _total: None)
    past = Past.of(dataset, rule.label)
    rows = _drawn(past, until, rule, seed, told)
    told("features", 0, 1)
    state = State(past)
    matrix = features_at(state, rows.user, rows.item, np.full(len(rows), NO_CHANNEL, np.uint8), rows.at)
    split = Split.of(rows.at)
    weeks = Weeks.of(state, until, rule, split_start(rows, split))
    best, tried = _search(matrix, rows, split, weeks, shape or Shape(), trials, seed, told)
    told("model", 0, 1)
    final = _fit(matrix, rows, np.ones(len(rows), bool), best.shape, best.trees, seed)
    metrics = {"rows": len(rows), "positives": int(rows.label.sum()), "trees": best.trees, "shape": best.shape.parameters}
    metrics |= {"validation": best.metrics, "trials": tried}
    return Trained(final, best.calibration, metrics, Window(float(past.at[0]), until))


def _drawn(past: Past, until: float, rule: ExampleRule, seed: int, told: Progress) -> Rows:
    days = len(moments(past, until, rule))
    parts = []
    for day, part in enumerate(draw(past, until, rule, seed)):
        parts.append(part)
        told("rows", day + 1, days)
    rows = Rows.concat(parts) if parts else None
    positives = int(rows.label.sum()) if rows else 0
    if rows is None or positives < LEAST_POSITIVES or rows.label.all():
        raise InputError(
            f"there are {positives} engagements with young items to learn from before {np.datetime64(int(until), 's')}Z, and it takes "
            f"{LEAST_POSITIVES}; give events of four weeks or more, naming their items"
        )
    return rows


def split_start(rows: Rows, split: Split) -> float:
    """Return the moment that the latest, measuring rows begin at."""
    return float(rows.at[split.late].min())


@dataclass(frozen=True)
class Weeks:
    """Whole sets of candidates of some moments after the rows that fit a model, to measure rankings on."""

    rows: Rows
    matrix: Matrix
    group: npt.NDArray[Any]

    @staticmethod
    def of(state: State, until: float, rule: ExampleRule, since: float, most: int = 150_000) -> Weeks:
        """Return candidates of young items at weekly moments, grouped by user, and of items at birth, grouped by item."""
        candidates = Candidates(state.past, rule)
        parts: list[Rows] = []
        groups: list[npt.NDArray[np.int64]] = []
        for at in np.arange(until - rule.label.window_s, since, -7 * DAY_S):
            for rows, code in ((candidates.alive(at), "user"), (candidates.born(np.floor(at / DAY_S - 1) * DAY_S), "item")):
                parts.append(rows)
                groups.append(getattr(rows, code).astype(np.int64) * 2 + (code == "item") + len(groups) * 2**33)
            if sum(map(len, parts)) > most:
                break
        rows = Rows.concat(parts) if parts else Rows.concat([candidates.alive(since)])
        group = np.concatenate(groups) if groups else rows.user.astype(np.int64)
        matrix = features_at(state, rows.user, rows.item, np.full(len(rows), NO_CHANNEL, np.uint8), rows.at)
        return Weeks(rows, matrix, group)

    def ndcg(self, score: npt.NDArray[Any]) -> float:
        """Return the NDCG@5 of a score."""
        return ndcg(self.group, score, self.rows.label)

    def baselines(self) -> dict[str, float]:
        """Return the NDCG@5 of ranking at random, by popularity and by age."""
        column = {name: self.matrix[:, place] for place, name in enumerate(FEATURES)}
        random = np.random.default_rng(0).random(len(self.rows))
        scores: dict[str, npt.NDArray[Any]] = {"random": random, "popular": column["item_users_7d"], "newest": -column["item_age_h"]}
        return {name: round(self.ndcg(score), 4) for name, score in scores.items()}


@dataclass(frozen=True)
class Attempt:
    """One shape with what it reached on later weeks."""

    shape: Shape
    trees: int
    calibration: Calibration
    metrics: dict[str, Any]


def _search(
    matrix: Matrix, rows: Rows, split: Split, weeks: Weeks, shape: Shape, trials: int, seed: int, told: Progress
) -> tuple[Attempt, list[dict[str, Any]]]:
    """Return the best attempt and what each one was and reached; the first is always the given shape."""
    random, attempts = np.random.default_rng(seed), []
    for trial in range(trials + 1):
        told("fit", trial, trials + 1)
        attempts.append(_attempt(matrix, rows, split, weeks, _varied(random) if trial else shape, seed))
    reached = [np.nan_to_num(attempt.metrics["ndcg_at_5"], nan=-1.0) for attempt in attempts]
    tried = [attempt.shape.parameters | {"ndcg_at_5": attempt.metrics["ndcg_at_5"]} for attempt in attempts]
    return attempts[int(np.argmax(reached))], tried if trials else []


def _varied(random: np.random.Generator) -> Shape:
    numbers = {
        "eta": float(np.exp(random.uniform(np.log(0.02), np.log(0.15)))),
        "min_child_weight": float(np.exp(random.uniform(0, np.log(100)))),
        "subsample": float(random.uniform(0.5, 1)),
        "colsample_bytree": float(random.uniform(0.3, 1)),
        "lambda": float(np.exp(random.uniform(0, np.log(50)))),
    }
    return Shape({"max_depth": int(random.integers(3, 9))} | {name: round(value, 4) for name, value in numbers.items()})


def _attempt(matrix: Matrix, rows: Rows, split: Split, weeks: Weeks, shape: Shape, seed: int) -> Attempt:
    booster = _fit(matrix, rows, split.early, shape, shape.most_trees, seed, stop_on=split.middle if shape.patience else None)
    stopped_at = booster.attr("best_iteration")
    trees = booster.num_boosted_rounds() if stopped_at is None else int(stopped_at) + 1
    booster = booster[:trees]
    late = rows.take(split.late)
    margin = booster.inplace_predict(matrix[split.late], predict_type="margin")
    calibration = fit(margin, late.label, late.weight)
    raw, probability = Calibration.identity()(margin), calibration(margin)
    metrics = {
        "ndcg_at_5": round(weeks.ndcg(booster.inplace_predict(weeks.matrix, predict_type="margin")), 4),
        "baselines": weeks.baselines(),
        "auc": round(auc(margin, late.label, late.weight), 4),
        "log_loss": round(log_loss(probability, late.label, late.weight), 6),
        "expected_over_observed_uncalibrated": round(expected_over_observed(raw, late.label, late.weight), 4),
        "expected_over_observed": round(expected_over_observed(probability, late.label, late.weight), 4),
        "rows": len(late),
        "positives": int(late.label.sum()),
    }
    return Attempt(shape, trees, calibration, metrics)


def _fit(
    matrix: Matrix,
    rows: Rows,
    there: npt.NDArray[np.bool_],
    shape: Shape,
    trees: int,
    seed: int,
    stop_on: npt.NDArray[np.bool_] | None = None,
) -> xgb.Booster:
    """Fit on the rows that are `there`; with `stop_on`, stop once the log loss of those rows has stopped falling."""
    parameters = {"objective": "binary:logistic", "tree_method": "hist", "max_bin": 256, "seed": seed, "eval_metric": "logloss"}
    names, scale = list(FEATURES), float(rows.weight[there].mean())

    def data(mask: npt.NDArray[np.bool_]) -> xgb.DMatrix:
        return xgb.DMatrix(matrix[mask], rows.label[mask], weight=rows.weight[mask] / scale, feature_names=names)

    if stop_on is None or not rows.label[stop_on].any():
        return xgb.train(parameters | shape.parameters, data(there), trees)
    watch = [(data(stop_on), "later")]
    return xgb.train(
        parameters | shape.parameters, data(there), trees, evals=watch, early_stopping_rounds=shape.patience, verbose_eval=False
    )
