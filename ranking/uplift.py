"""The change that sending causes, learned from randomised sends: who gains by being told, not who engages anyway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float32]
Method = Literal["two_model", "transformed"]
METHODS: tuple[Method, ...] = get_args(Method)

BALANCE_P = 0.01
"""A column that differs between treated and control by chance this rarely was probably not known before the treatment."""
LEAST_TELLING = 30
"""How many rows must agree before a column is said to give the outcome away."""


@dataclass(frozen=True)
class UpliftRule:
    """How uplift is learned. `folds`: every row is judged by models that have not seen it. `least_rows`: of a leaf."""

    method: Method = "two_model"
    folds: int = 5
    trees: int = 60
    least_rows: int = 50
    parameters: dict[str, Any] = field(default_factory=lambda: {"max_depth": 3, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.8})
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """A randomised trial: `features` float32 (n, k) known beforehand, `treated` bool (n,), `outcome` float64 (n,)."""

    features: Matrix
    treated: Bools
    outcome: Floats

    def __len__(self) -> int:
        return len(self.outcome)

    def take(self, rows: npt.NDArray[Any]) -> Trial:
        """Return some rows."""
        return Trial(self.features[rows], self.treated[rows], self.outcome[rows])

    @property
    def effect(self) -> float:
        """The mean outcome of the treated less that of the control."""
        return float(self.outcome[self.treated].mean() - self.outcome[~self.treated].mean())


def uplift(trial: Trial, rule: UpliftRule | None = None, told: Callable[[int], None] = lambda _: None) -> Floats:
    """Return each row's expected change of outcome by treatment, from models that have not seen the row, float64 (n,).

    `told`: called with the number of folds done.
    """
    rule = rule or UpliftRule()
    fold = np.random.default_rng(rule.seed).permutation(len(trial)) % rule.folds
    found = np.empty(len(trial))
    for number in range(rule.folds):
        found[fold == number] = fit(trial.take(fold != number), rule)(trial.features[fold == number])
        told(number + 1)
    return found


def fit(trial: Trial, rule: UpliftRule) -> Callable[[Matrix], Floats]:
    """Return the function from features to uplift that a trial teaches, by the rule's method.

    two_model: the difference of a model of the treated and one of the control (Radcliffe and Surry 2011, the T-learner of Kuenzel et
    al. 2019). transformed: one regression on y (w - e) / (e (1 - e)), whose expectation is the uplift (Athey and Imbens 2015); e is
    the share of the treated.
    """
    if rule.method == "two_model":
        treated, control = (_boosted(trial.take(trial.treated == arm), rule) for arm in (True, False))
        return lambda rows: treated(rows) - control(rows)
    share = float(trial.treated.mean())
    outcome = trial.outcome * (trial.treated - share) / (share * (1 - share))
    return _boosted(Trial(trial.features, trial.treated, outcome), rule)


def _boosted(trial: Trial, rule: UpliftRule) -> Callable[[Matrix], Floats]:
    binary = bool(np.isin(trial.outcome, (0.0, 1.0)).all())
    mean = float(trial.outcome.mean())
    # A leaf is measured in hessian, which is 1 a row for squares and p (1 - p) for a logistic loss.
    per_row = max(mean * (1 - mean), 1e-3) if binary else 1.0
    parameters = {
        "objective": "binary:logistic" if binary else "reg:squarederror",
        "base_score": float(np.clip(mean, 1e-6, 1 - 1e-6)) if binary else mean,
        "min_child_weight": rule.least_rows * per_row,
        "tree_method": "hist",
        "seed": rule.seed,
    }
    booster = xgb.train(parameters | rule.parameters, xgb.DMatrix(trial.features, trial.outcome), rule.trees)
    return lambda rows: booster.inplace_predict(rows).astype(np.float64)


@dataclass(frozen=True)
class Qini:
    """How much better an order is than treating at random.

    `coefficient`: the area between the curve and the straight line to its end, in outcomes gained per treated person, so 0 for a
    random order. `interval`: its bootstrap interval. `share`, `gained`: the curve, the outcomes gained per treated person when the first
    share of the order is treated, shape (points,) each.
    """

    coefficient: float
    interval: tuple[float, float]
    share: Floats
    gained: Floats


def qini(trial: Trial, score: Floats, *, level: float = 0.95, draws: int = 500, points: int = 11, seed: int = 0) -> Qini:
    """Return the Qini coefficient (Radcliffe 2007) of treating in descending order of `score`, (n,), with its interval.

    The interval resamples people (Efron 1979) and keeps their scores, so `score` must come from models that have not seen them.
    Ties are broken at random.
    """
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(trial)), -score))
    ordered = trial.take(order)
    share, gained = curve(ordered, np.ones(len(trial)))
    drawn = [area(*curve(ordered, times)) for times in _resamples(len(trial), draws, random)]
    at = np.linspace(0, 1, points)
    tails = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Qini(area(share, gained), (float(tails[0]), float(tails[1])), at, np.interp(at, share, gained))


def _resamples(size: int, draws: int, random: np.random.Generator) -> list[Floats]:
    return [np.bincount(random.integers(0, size, size), minlength=size).astype(np.float64) for _ in range(draws)]


def curve(ordered: Trial, times: Floats) -> tuple[Floats, Floats]:
    """Return share treated and outcomes gained per treated person along an order, (n + 1,) each; `times`: how often each row counts.

    Gained = treated outcomes so far - control outcomes so far x treated so far / control so far (Radcliffe 2007), over all treated.
    """

    def so_far(values: npt.NDArray[Any]) -> Floats:
        return np.concatenate([[0.0], np.cumsum(times * values)])

    treated, control = so_far(ordered.treated), so_far(~ordered.treated)
    with_it, without = so_far(ordered.outcome * ordered.treated), so_far(ordered.outcome * ~ordered.treated)
    scale = np.divide(treated, control, out=np.zeros_like(treated), where=control > 0)
    return so_far(np.ones(len(ordered))) / times.sum(), (with_it - without * scale) / treated[-1]


def area(share: Floats, gained: Floats) -> float:
    """Return the area between a curve and the straight line from its start to its end."""
    above = gained - share * gained[-1]
    return float(((above[1:] + above[:-1]) / 2 * np.diff(share)).sum())


def imbalance(features: Matrix, treated: Bools) -> Floats:
    """Return per column how likely chance alone gives such a difference of means between the arms, (k,), two-sided normal test.

    Randomisation leaves what was known before the treatment alike in both arms; what came of it differs.
    """
    arms = [features[treated].astype(np.float64), features[~treated].astype(np.float64)]
    means = [np.nanmean(arm, axis=0) for arm in arms]
    error = np.sqrt(sum(np.nanvar(arm, axis=0) / np.maximum((~np.isnan(arm)).sum(axis=0), 1) for arm in arms))
    away = np.divide(np.abs(means[0] - means[1]), error, out=np.zeros(features.shape[1]), where=error > 0)
    return np.asarray(2 * ndtr(-away), np.float64)


def gives_away(features: Matrix, outcome: Floats) -> Bools:
    """Return which columns tell that the outcome came, (k,): it did wherever they differ from their usual value.

    A purchase tells that there was a visit. What is known beforehand never tells so surely, but what came of the treatment does.
    """
    came = outcome != 0
    found = np.zeros(features.shape[1], bool)
    for number, column in enumerate(features.T):
        values, times = np.unique(column, return_counts=True)
        unusual = column != values[np.argmax(times)]
        found[number] = unusual.sum() >= LEAST_TELLING and bool(came[unusual].all()) and not came.all()
    return found
