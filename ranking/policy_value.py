"""What another policy would have brought, from what a logging policy chose, how likely each choice was, and what came of it. Pure.

The four estimators are ratios or means of per-row sums, so that all of them, their intervals and their checks come from the same
five numbers per row. Rows of one unit (a user, a request) stay together in every interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

WEIGHT_TOLERANCE = 0.05
"""How far the mean weight may be from 1 before something is wrong with the target or with the propensities."""
PRIOR_ROWS = 100.0
"""How many rows of its position the reward model adds to those of each action."""
ESTIMATORS = ("ips", "snips", "dr", "sndr")


@dataclass(frozen=True)
class Logged:
    """Rows that a logging policy chose, each float64 (n,) unless said.

    `reward`: what came of the row. `propensity`: the logging policy's probability of this row's action, above 0. `target`: the other
    policy's probability of the same action at the same place. `expected`: the reward model's value of the action taken.
    `expected_target`: the reward model's mean value of the actions under the target policy. `unit`: int64 codes of what rows stay
    together, None: each row is on its own.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    expected: Floats
    expected_target: Floats
    unit: Codes | None = None

    def __len__(self) -> int:
        return len(self.reward)

    def weights(self, clip: float | None = None) -> Floats:
        """Return the target's probability over the propensity, at most `clip`."""
        weight = self.target / self.propensity
        return weight if clip is None else np.minimum(weight, clip)

    def sums(self, clip: float | None = None) -> Floats:
        """Return per row or unit: rows, weight, weighted reward, the model's value, weighted residual of the model; (units, 5)."""
        weight = self.weights(clip)
        residual = weight * (self.reward - self.expected)
        rows = np.column_stack([np.ones(len(self)), weight, weight * self.reward, self.expected_target, residual])
        if self.unit is None:
            return rows
        _, place = np.unique(self.unit, return_inverse=True)
        return np.column_stack([np.bincount(place, column) for column in rows.T])


@dataclass(frozen=True)
class Estimate:
    """A policy's value per row, its standard error, and two intervals at the same level: normal and bootstrap, each (low, high)."""

    value: float
    standard_error: float
    asymptotic: tuple[float, float]
    bootstrap: tuple[float, float]


@dataclass(frozen=True)
class Support:
    """How far the log can speak for the target.

    `mean_weight`: before clipping; its expectation is 1 where the propensities are true and the target is a distribution over what
    could be logged. `effective_rows`: how many rows of the target's own would say as much. `clipped`: share of rows cut to `clip`.
    """

    rows: int
    mean_weight: float
    mean_weight_error: float
    most_weight: float
    effective_rows: float
    clipped: float

    @property
    def sound(self) -> bool:
        """Whether the mean weight is 1 within the tolerance."""
        return abs(self.mean_weight - 1) <= WEIGHT_TOLERANCE


def support(logged: Logged, clip: float | None = None) -> Support:
    """Return the checks of a log against a target; effective rows as of Kish (1965), (sum of weights)^2 / sum of their squares."""
    weight, used = logged.weights(), logged.weights(clip)
    spread = logged.sums()[:, [0, 1]]
    return Support(
        rows=len(logged),
        mean_weight=float(weight.mean()),
        mean_weight_error=_standard_error(spread[:, 1] - spread[:, 0] * weight.mean(), len(logged)),
        most_weight=float(weight.max()),
        effective_rows=float(used.sum() ** 2 / (used**2).sum()) if used.any() else 0.0,
        clipped=float((used < weight).mean()),
    )


def values(sums: Floats) -> dict[str, Floats]:
    """Return each estimator's value from totals, shape (..., 5) as `Logged.sums` orders them, to (...); NaN where no weight is left.

    IPS: Horvitz and Thompson (1952). SNIPS: Swaminathan and Joachims (2015). DR: Dudik, Langford and Li (2011). Self-normalised DR:
    the same with its correction divided by the sum of weights (Robins et al. 2007; Thomas and Brunskill 2016).
    """
    rows, weight, rewarded, model, residual = np.moveaxis(sums, -1, 0)
    weight = np.where(weight > 0, weight, np.nan)
    return {
        "ips": rewarded / rows,
        "snips": rewarded / weight,
        "dr": (model + residual) / rows,
        "sndr": model / rows + residual / weight,
    }


def evaluate(logged: Logged, *, clip: float | None = None, level: float = 0.95, draws: int = 1000, seed: int = 0) -> dict[str, Estimate]:
    """Return all four estimates with intervals at `level`; rows, and at least one weight above 0, must be there."""
    sums = logged.sums(clip)
    found = {name: float(value) for name, value in values(sums.sum(axis=0)).items()}
    errors = {name: _standard_error(influence, len(logged)) for name, influence in influences(sums, found).items()}
    reach = float(ndtri((1 + level) / 2))
    drawn = bootstrap(sums, draws, seed)
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {name: np.nanquantile(drawn[name], tails) for name in ESTIMATORS}
    return {
        name: Estimate(
            value=found[name],
            standard_error=errors[name],
            asymptotic=(found[name] - reach * errors[name], found[name] + reach * errors[name]),
            bootstrap=(float(intervals[name][0]), float(intervals[name][1])),
        )
        for name in ESTIMATORS
    }


def influences(sums: Floats, found: Mapping[str, float]) -> dict[str, Floats]:
    """Return how much each unit pulls each estimate, shape (units,), by the delta method; they sum to 0."""
    rows, weight, rewarded, model, residual = sums.T
    mean_weight = weight.sum() / rows.sum()
    correction = residual.sum() / weight.sum()
    return {
        "ips": rewarded - found["ips"] * rows,
        "snips": (rewarded - found["snips"] * weight) / mean_weight,
        "dr": model + residual - found["dr"] * rows,
        "sndr": model - model.sum() / rows.sum() * rows + (residual - correction * weight) / mean_weight,
    }


def bootstrap(sums: Floats, draws: int, seed: int) -> dict[str, Floats]:
    """Return each estimator's values on `draws` resamples of the units (Efron 1979), shape (draws,).

    Units that are alike are drawn together: which of them it was changes nothing.
    """
    random = np.random.default_rng(seed)
    distinct, times = np.unique(sums, axis=0, return_counts=True)
    share = times / times.sum()
    at_once = max(1, 4_000_000 // len(distinct))
    parts = [
        random.multinomial(len(sums), share, size=min(at_once, draws - done)).astype(np.float64) @ distinct
        for done in range(0, draws, at_once)
    ]
    return values(np.concatenate(parts))


def _standard_error(influence: Floats, rows: int) -> float:
    units = len(influence)
    return float(np.sqrt((influence**2).sum() * units / max(units - 1, 1)) / rows)


def reward_model(
    reward: Floats, cell: Codes, position: Codes, unit: Codes | None, *, folds: int = 5, seed: int = 0
) -> tuple[Floats, Codes]:
    """Return the expected reward of each cell as learned without each fold, shape (folds, cells), and the fold of each row.

    `cell`: code of the action at its position; `position`: the position of each cell, shape (cells,). A cell's mean is shrunk to that of
    its position by PRIOR_ROWS rows, and the position's to that of all. Every row is judged by a model that has seen neither it
    nor its unit, which keeps the doubly robust estimate unbiased (Chernozhukov et al. 2018).
    """
    owner = np.arange(len(reward)) if unit is None else np.unique(unit, return_inverse=True)[1]
    shuffled = np.random.default_rng(seed).permutation(int(owner.max()) + 1)
    fold = (shuffled % folds)[owner].astype(np.int64)
    cells, places = len(position), int(position.max()) + 1

    def kept(code: Codes, size: int, weight: Floats) -> Floats:
        per_fold = np.bincount(fold * size + code, weight, folds * size).reshape(folds, size)
        return np.asarray(per_fold.sum(axis=0) - per_fold)

    ones, place = np.ones(len(reward)), position[cell]
    everything = np.zeros(len(reward), np.int64)
    overall = kept(everything, 1, reward) / np.maximum(kept(everything, 1, ones), 1)
    by_place = (kept(place, places, reward) + PRIOR_ROWS * overall) / (kept(place, places, ones) + PRIOR_ROWS)
    by_cell = (kept(cell, cells, reward) + PRIOR_ROWS * by_place[:, position]) / (kept(cell, cells, ones) + PRIOR_ROWS)
    return by_cell, fold


def tabular(
    reward: Floats,
    propensity: Floats,
    cell: Codes,
    position: Codes,
    probability: Floats,
    unit: Codes | None = None,
    *,
    seed: int = 0,
) -> Logged:
    """Return a log beside a target that is a table: `probability` of each cell, float64 (cells,), at its `position`, int64 (cells,).

    `reward`, `propensity`, `cell`: per row, (n,).
    """
    by_cell, fold = reward_model(reward, cell, position, unit, seed=seed)
    at_place: Floats = np.stack([np.bincount(position, row * probability, int(position.max()) + 1) for row in by_cell]).astype(np.float64)
    return Logged(reward, propensity, probability[cell], by_cell[fold, cell], at_place[fold, position[cell]], unit)
