"""One model from rows: what it is to predict, which features and negatives it sees, how large it grows and when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from ranking import features
from ranking.blocks import Matrix
from ranking.features import FEATURES
from ranking.past import Bools
from ranking.training_set import TrainingSet

Margins = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Objective:
    """XGBoost's loss, the target it is fitted to, and the measure that early stopping watches."""

    loss: str
    target: str
    measure: str
    ranks: bool = False


OBJECTIVES = {
    "logistic": Objective("binary:logistic", "engaged", "logloss"),
    "graded": Objective("binary:logistic", "graded", "logloss"),
    "discounted": Objective("reg:squarederror", "discounted", "rmse"),
    "pairwise": Objective("rank:pairwise", "engaged", "ndcg@5", ranks=True),
    "ndcg": Objective("rank:ndcg", "engaged", "ndcg@5", ranks=True),
}
"""docs/labels.md tells when to choose which."""

NAMED_GROUPS: dict[str, tuple[str, ...]] = {
    "user": features.USER_FEATURES,
    "item": features.ITEM_FEATURES,
    "row": features.ROW_FEATURES,
    "author": features.AUTHOR_FEATURES,
    "topic": features.TOPIC_FEATURES,
    "vector": features.VECTOR_FEATURES,
    "text": features.TEXT_FEATURES,
    "kind": features.KIND_FEATURES,
}
_OTHERS = tuple(name for name in FEATURES if not any(name in names for names in NAMED_GROUPS.values()))
GROUPS = NAMED_GROUPS | ({"other": _OTHERS} if _OTHERS else {})
"""Groups of features that a model can do without."""

SHARED = {"tree_method": "hist", "max_bin": 256}
RANKING = {"lambdarank_pair_method": "mean", "lambdarank_num_pair_per_sample": 4}
"""Some pairs of each positive: with all of them a large decision would count, and cost, as its square."""


@dataclass(frozen=True)
class Shape:
    """What a model looks like: XGBoost parameters, the most trees, and how long early stopping waits, 0: for all of them.

    `objective`: a name in OBJECTIVES. `without`: names in GROUPS of features it does not see. `negatives`: the share of the
    rows without engagement that it is fitted on; those weigh as much more.
    """

    parameters: dict[str, Any] = field(
        default_factory=lambda: {
            "max_depth": 4,
            "eta": 0.05,
            "min_child_weight": 10.0,
            "subsample": 0.8,
            "colsample_bytree": 0.3,
            "lambda": 5.0,
        }
    )
    most_trees: int = 400
    patience: int = 40
    objective: str = "logistic"
    without: tuple[str, ...] = ()
    negatives: float = 1.0

    def described(self) -> dict[str, Any]:
        """Return everything that makes this shape, for reports."""
        return {"objective": self.objective, "without": list(self.without), "negatives": self.negatives, **self.parameters}


def fit(
    data: TrainingSet,
    there: Bools,
    shape: Shape,
    trees: int,
    seed: int,
    *,
    stop_on: Bools | None = None,
    callbacks: Sequence[xgb.callback.TrainingCallback] = (),
) -> xgb.Booster:
    """Fit on the rows that are `there`; with `stop_on`, stop once the measure on those rows has not improved for `patience` trees.

    A booster that stopped early keeps its further trees; `trees_of` tells how many are good.
    """
    objective = OBJECTIVES[shape.objective]
    parameters = SHARED | {"objective": objective.loss, "eval_metric": objective.measure, "seed": seed} | shape.parameters
    if objective.ranks:
        parameters |= RANKING
    scale = float(data.rows.weight[there].mean())
    learned = _matrix_of(data, there & _drawn(data, shape.negatives, seed), shape, scale, shape.negatives)
    if stop_on is None or not shape.patience or not data.rows.label[stop_on].any():
        return xgb.train(parameters, learned, trees, callbacks=list(callbacks))
    watch = [(_matrix_of(data, stop_on, shape, scale), "later")]
    return xgb.train(
        parameters, learned, trees, evals=watch, early_stopping_rounds=shape.patience, verbose_eval=False, callbacks=list(callbacks)
    )


def trees_of(booster: xgb.Booster) -> int:
    """Return how many trees of a booster are good: up to the best one, where it was stopped early."""
    stopped_at = booster.attr("best_iteration")
    return booster.num_boosted_rounds() if stopped_at is None else int(stopped_at) + 1


def margins(booster: xgb.Booster, matrix: Matrix) -> Margins:
    """Return the raw margins of rows, float32 (n,)."""
    if not len(matrix):
        return np.empty(0, np.float32)
    found: Margins = booster.inplace_predict(matrix, predict_type="margin")
    return found


def _drawn(data: TrainingSet, share: float, seed: int) -> Bools:
    """Return all positives and about `share` of the rest; the same rows for the same seed, and more of them for a larger share."""
    return data.rows.label | (np.random.default_rng(seed).random(len(data)) < share)


def _matrix_of(data: TrainingSet, mask: Bools, shape: Shape, scale: float, share: float = 1.0) -> xgb.DMatrix:
    """Return the rows of a mask that have the target; `share` of the negatives were drawn, so each stands for 1 / share."""
    objective = OBJECTIVES[shape.objective]
    target = data.targets[objective.target]
    rows = np.flatnonzero(mask & ~np.isnan(target))
    if objective.ranks:
        return _ranked_matrix_of(data, rows, shape)
    weight = np.where(data.rows.label, 1.0, 1 / share)[rows] * data.rows.weight[rows] / scale
    return xgb.DMatrix(_seen(data.matrix[rows], shape), target[rows], weight=weight, feature_names=list(FEATURES))


def _ranked_matrix_of(data: TrainingSet, rows: npt.NDArray[np.intp], shape: Shape) -> xgb.DMatrix:
    """Return the rows of decisions that something was right in, decision by decision; a ranking has no use for the others."""
    rows = rows[np.isin(data.decision[rows], np.unique(data.decision[rows][data.rows.label[rows]]))]
    rows = rows[np.argsort(data.decision[rows], kind="stable")]
    _, query = np.unique(data.decision[rows], return_inverse=True)
    return xgb.DMatrix(_seen(data.matrix[rows], shape), data.rows.label[rows], qid=query.ravel(), feature_names=list(FEATURES))


def _seen(matrix: Matrix, shape: Shape) -> Matrix:
    """Blank what a shape does not see; trees cannot split on it then, and predict the same whatever it holds later."""
    for group in shape.without:
        matrix[:, [FEATURES.index(name) for name in GROUPS[group]]] = np.nan
    return matrix
