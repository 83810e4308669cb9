"""Walking forward: what models of the past said about what was then still to come, the material of calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from ranking.calibration import Calibration
from ranking.calibration import fit as fit_calibration
from ranking.evaluation import Resampled, auc, by_activity, cut_at, expected_over_observed, log_loss, recall_at, tenths, threshold_at_recall
from ranking.examples import Rows
from ranking.fitting import Margins, Shape, fit, margins
from ranking.labels import DAY_S, LabelRule, is_over
from ranking.past import Bools, Floats
from ranking.training_set import TrainingSet

LEAST_POSITIVES = 20
FOLDS = (0.5, 0.75, 1.0)
"""Where folds begin: shares of the time before the last, held out, rows."""
HALF_LIFE_S = 56 * DAY_S
"""How fast a fold's rows lose their say in a curve. What is expected over what comes swings from week to week and returns: a curve of
the latest weeks alone (half-lives of one or two weeks) follows the swings and promises later weeks worse than one of all folds."""


EventsBefore = Callable[[float], npt.NDArray[np.int64]]
"""moment -> how many engagements each user (by code) had before it."""


@dataclass(frozen=True)
class Split:
    """Rows by time: `early` fits, `middle` stops early, `late` calibrates and measures; each a mask over the rows."""

    early: npt.NDArray[np.bool_]
    middle: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]

    @staticmethod
    def of(at: Floats) -> Split:
        """Hold out the last sixth of the time, at least 2 and at most 8 weeks where there are that many."""
        start, end = float(at.min()), float(at.max())
        held_s = min(max((end - start) / 6, 14 * DAY_S), 56 * DAY_S, (end - start) / 2)
        late = at > end - held_s / 2
        middle = ~late & (at > end - held_s)
        return Split(~late & ~middle, middle, late)


def known_at(data: TrainingSet, moment: float, rule: LabelRule) -> Bools:
    """Return the rows that could have been trained on at a moment: those whose label window was over.

    The same engagement is the label of rows on several days; without this a row after the moment would find its twin
    among the rows before it, and more trees would seem to help than do. Where a short log has too few such rows, all
    rows before the moment.
    """
    over = is_over(data.rows.at, moment, rule)
    return over if can_learn(data.rows, over) else data.rows.at < moment


def can_learn(rows: Rows, there: Bools) -> bool:
    """Return whether the rows that are `there` hold enough of both outcomes to fit anything to."""
    positives = int(rows.label[there].sum())
    return LEAST_POSITIVES <= positives < int(there.sum())


@dataclass(frozen=True)
class Walk:
    """Rows and the margins that a model of the time before them gave, in `fold` 0, 1, ... which begin at `starts`.

    `booster`: the model of the last fold, which has seen nothing of the `late` rows.
    """

    rows: Rows
    margin: Margins
    fold: npt.NDArray[np.intp]
    starts: tuple[float, ...]
    booster: xgb.Booster

    def calibration(self) -> Calibration:
        """Return the curve of all folds: later data than any of their models saw."""
        return fit_calibration(self.margin, self.rows.label, faded(self.rows))

    def threshold(self, recall: float) -> float:
        """Return the highest margin that keeps a share of the engagements of all folds, the latest counting most."""
        return threshold_at_recall(self.margin, self.rows.label, faded(self.rows), recall)

    def tried(self, rule: LabelRule, recall: float, events_before: EventsBefore) -> dict[str, Any]:
        """Return how calibration and threshold did when each fold was to be told by earlier folds alone.

        The first fold has none before it and is not measured, unless it is the only one: then the curve is measured on
        the rows it was fitted to, and `measured_on` says so. Users are as active as they were before the first row measured.
        """
        probability = np.full(len(self.margin), np.nan)
        above = np.zeros(len(self.margin), bool)
        for fold, start in enumerate(self.starts[1:], start=1):
            here, earlier = self.fold == fold, (self.fold < fold) & is_over(self.rows.at, start, rule)
            if here.any() and can_learn(self.rows, earlier):
                past = replace(self, rows=self.rows.take(earlier), margin=self.margin[earlier], fold=self.fold[earlier])
                probability[here] = past.calibration()(self.margin[here])
                above[here] = self.margin[here] >= past.threshold(recall)
        later = ~np.isnan(probability)
        if self.rows.label[later].any():
            return {"measured_on": "later rows"} | self._measured(later, probability[later], above[later], recall, events_before)
        everything, told = np.ones(len(self.margin), bool), self.calibration()(self.margin).astype(np.float64)
        above = self.margin >= self.threshold(recall)
        return {"measured_on": "the same rows"} | self._measured(everything, told, above, recall, events_before)

    def _measured(self, there: Bools, probability: Floats, above: Bools, recall: float, events_before: EventsBefore) -> dict[str, Any]:
        rows = self.rows.take(there)
        label, weight, user = rows.label, rows.weight, rows.user
        resampled = Resampled.of(user)
        raw = Calibration.identity()(self.margin[there])
        return {
            "rows": len(rows),
            "positives": int(label.sum()),
            "auc": auc(self.margin[there], label, weight),
            "log_loss": log_loss(probability, label, weight),
            "expected_over_observed": expected_over_observed(probability, label, weight),
            "expected_over_observed_interval": list(resampled.ratio(probability * weight, label * weight)),
            "expected_over_observed_uncalibrated": expected_over_observed(raw, label, weight),
            "deciles": [vars(part) for part in tenths(probability, label, weight, user)],
            "engagement_deciles": [vars(part) for part in tenths(probability, label, weight, user, of="engagement")],
            "threshold": {
                "target_recall": recall,
                "recall": recall_at(above.astype(float), label, weight, 0.5),
                "recall_interval": list(resampled.ratio(above * label * weight, label * weight)),
                "cut": cut_at(above.astype(float), weight, 0.5),
            },
            "activity_deciles": [vars(part) for part in by_activity(events_before(float(rows.at.min())), user, above, label, weight)],
        }


def faded(rows: Rows) -> Floats:
    """Return the weights of rows, halved for every HALF_LIFE_S that they are older than the latest, shape (n,)."""
    weight: Floats = rows.weight * 0.5 ** ((rows.at.max(initial=-np.inf) - rows.at) / HALF_LIFE_S)
    return weight


def walk_forward(
    data: TrainingSet, late_at: float, shape: Shape, trees: int, rule: LabelRule, seed: int, told: Callable[[str, int, int], None]
) -> Walk:
    """Fit on what was known at each fold's start and keep what it says of the fold; the last fold begins at `late_at`."""
    first = float(data.rows.at.min())
    starts = [first + (late_at - first) * share for share in FOLDS]
    margin, fold = np.full(len(data), np.nan, np.float32), np.full(len(data), -1)
    kept: list[float] = []
    for place, (start, end) in enumerate(zip(starts, [*starts[1:], np.inf], strict=True)):
        told("walking forward", place, len(starts))
        here, known = (data.rows.at >= start) & (data.rows.at < end), known_at(data, start, rule)
        if here.any() and (can_learn(data.rows, known) or end == np.inf):
            booster = fit(data, known, shape, trees, seed)
            margin[here], fold[here] = margins(booster, data.matrix[here]), len(kept)
            kept.append(start)
    told("walking forward", len(starts), len(starts))
    there = fold >= 0
    return Walk(data.rows.take(there), margin[there], fold[there], tuple(kept), booster)
