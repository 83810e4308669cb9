"""The curve of a trained model moved by what came after its training; trees, and so every ranking, stay as they are.

What is expected over what comes swings from week to week; a curve fitted once follows none of it, and one moved daily all but the latest
weeks of it. Level and steepness swing, not the shape: that stays as training found it, on more engagements than a few weeks hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lake.dataset import Dataset
from lake.errors import InputError
from ranking.bundle import Bundle
from ranking.calibration import Calibration, moved
from ranking.evaluation import expected_over_observed, log_loss
from ranking.examples import ExampleRule, Rows, draw
from ranking.join import features_at
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Floats, Past
from ranking.training_set import candidates_only

HALF_LIFE_S = 14 * DAY_S
MOST_ROWS = 200_000
LEAST_POSITIVES = 200
"""Engagements after training below which the curve that training fitted, on many more, is the better one."""


@dataclass(frozen=True)
class Recalibrated:
    """The new curve, and what the old one expected over what came on the rows it was fitted to, beside the new one's."""

    calibration: Calibration
    metrics: dict[str, Any]


def recalibrate(bundle: Bundle, dataset: Dataset, until: float, rule: ExampleRule | None = None, seed: int = 0) -> Recalibrated:
    """Move a bundle's curve by candidates after its training whose label window is over by `until` (seconds), the latest counting most.

    Raises InputError where fewer than LEAST_POSITIVES of them were engaged with.
    """
    rule = rule or ExampleRule(rows=MOST_ROWS)
    state = State(Past.of(dataset, rule.label))
    rows = rows_since(state.past, bundle.window.until, until, rule, seed)
    if rows is None or rows.label.sum() < LEAST_POSITIVES or rows.label.all():
        found = 0 if rows is None else int(rows.label.sum())
        raise InputError(
            f"{found} candidates after the model's training were engaged with and had their {rule.label.window_s / DAY_S:g} days by "
            f"--until, and it takes {LEAST_POSITIVES}: wait for more, or train the model again"
        )
    matrix = features_at(state, rows.user, rows.item, candidates_only(rows)[0], rows.at)
    margin, weight = bundle.margins(matrix), faded(rows, until)
    curve = moved(bundle.calibration, margin, rows.label, weight)
    before, after = (_measured(known(margin), rows, weight) for known in (bundle.calibration, curve))
    return Recalibrated(curve, {"rows": len(rows), "positives": int(rows.label.sum()), "before": before, "after": after})


def rows_since(past: Past, since: float, until: float, rule: ExampleRule, seed: int) -> Rows | None:
    """Return candidates of the days in [since, until) whose label window is over by `until`, None where there is no such day."""
    drawn = list(draw(past, until, replace(rule, history_s=until - since), seed))
    rows = Rows.concat(drawn) if drawn else None
    return rows.take(rows.at >= since) if rows else None


def faded(rows: Rows, until: float) -> Floats:
    """Return the weights of rows, halved for every HALF_LIFE_S of age."""
    weight: Floats = rows.weight * np.exp2(-(until - rows.at) / HALF_LIFE_S)
    return weight


def _measured(probability: Any, rows: Rows, weight: Floats) -> dict[str, float]:
    figures = (expected_over_observed, log_loss)
    return {figure.__name__: figure(probability, rows.label, weight) for figure in figures}
