"""Filters of sends by two labels, who joins and that discounted by 1/n: each a model and the least score that passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from ranking.evaluation import cut_at, recall_at, threshold_at_recall
from ranking.labels import discounted

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
LabelName = Literal["plain", "discounted"]

RECALL, CUT = 0.9, 0.5
"""What the plain classifier keeps of the engagements, and what the discounted regression drops of the sends: the published figures."""

SHAPE: dict[str, Any] = {"max_iter": 120, "learning_rate": 0.08, "max_leaf_nodes": 16, "early_stopping": False, "random_state": 0}


class Model(Protocol):
    """What says how good rows are."""

    def __call__(self, seen: F32, /) -> F32:
        """Return the scores of rows by their features, float32 (n,)."""
        ...


@dataclass(frozen=True)
class Filter:
    """A model and the least score that passes. `cut`, `recall`: of the held-out sends, what it drops and what of the joins it keeps."""

    model: Model
    threshold: float
    cut: float
    recall: float


def learned(day: Ints, user: Ints, seen: F32, joined: Bools, hold_from: int, first: Bools | None = None) -> dict[LabelName, Filter]:
    """Return the filters that sends teach, (n,) each: models of the days before `hold_from`, thresholds of those from it on.

    `first`: which sends are no update of another; the discounted label gives updates nothing and counts what they update once.
    """
    early = day < hold_from
    later, one = ~early, np.ones(int((~early).sum()))
    classifier = HistGradientBoostingClassifier(**SHAPE).fit(seen[early], joined[early])
    relevant = joined if first is None else joined & first
    regression = HistGradientBoostingRegressor(**SHAPE).fit(seen[early], discounted(user, day, relevant)[early])

    def plain(rows: F32) -> F32:
        return np.asarray(classifier.predict_proba(rows)[:, 1] if len(rows) else (), np.float32)

    def by_day(rows: F32) -> F32:
        return np.asarray(regression.predict(rows) if len(rows) else (), np.float32)

    def filtering(model: Model, threshold: float, score: F32) -> Filter:
        return Filter(model, threshold, cut_at(score, one, threshold), recall_at(score, joined[later], one, threshold))

    scores = plain(seen[later]), by_day(seen[later])
    return {
        "plain": filtering(plain, threshold_at_recall(scores[0], joined[later], one, RECALL), scores[0]),
        "discounted": filtering(by_day, float(np.quantile(scores[1], CUT)), scores[1]),
    }
