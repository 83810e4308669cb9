"""From a log to a model: draw rows, search a shape on later weeks, walk forward to calibrate it, measure, fit on everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xgboost as xgb

from lake.dataset import Dataset
from lake.errors import InputError
from ranking import popularity
from ranking.blocks import Matrix
from ranking.bundle import Window
from ranking.calibration import Calibration
from ranking.evaluation import Resampled, auc, expected_over_observed, rounded
from ranking.examples import ExampleRule, Rows, draw, moments
from ranking.fitting import OBJECTIVES, Shape, fit, margins
from ranking.held_out import HeldOut
from ranking.labels import DAY_S, LabelRule
from ranking.light import distil, explained
from ranking.offline import State
from ranking.past import Bools, Floats, Past
from ranking.reference import MOST_ROWS
from ranking.search import Attempt, Problem, best_of, search
from ranking.sent import sent
from ranking.training_set import TrainingSet, candidates_only
from ranking.walk import LEAST_POSITIVES, Split, Walk, faded, known_at, walk_forward

__all__ = ["SOURCES", "Progress", "Shape", "Trained", "train"]

SOURCES = ("log", "sends", "both")
"""Where rows come from: who could have been told what, who was told what, or both."""
TARGET_RECALL = 0.9


class Progress(Protocol):
    """Called with what is being done, how far it is, out of how much, and how it stands."""

    def __call__(self, what: str, done: int, total: int, standing: str = "") -> None:
        """Show it."""


@dataclass(frozen=True)
class Trained:
    """A fitted model with what it takes to write its bundle; `light`: see ranking.light. `late`: feature rows of the latest weeks.

    `popular`: what popularity is worth.
    """

    booster: xgb.Booster
    calibration: Calibration
    metrics: dict[str, Any]
    window: Window
    light: xgb.Booster
    late: Matrix
    popular: popularity.Worth


def train(
    dataset: Dataset,
    until: float,
    *,
    trials: int = 0,
    rule: ExampleRule | None = None,
    shape: Shape | None = None,
    source: str = "log",
    recall: float = TARGET_RECALL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Train on what a dataset, loaded up to `until` (seconds), tells; raises InputError where it tells too little.

    `shape`: of the model, by default `Shape()`. `trials`: how many further shapes to try; the one with the best NDCG on
    later weeks is taken if it ranks still later ones, on which it is measured, no worse than the default. `source`: one of
    SOURCES. `recall`: the share of engagements that the threshold in the metrics is to keep.
    """
    rule, shape, told = rule or ExampleRule(), shape or Shape(), progress or _silent
    if shape.objective not in OBJECTIVES:
        raise InputError(f"there is no objective {shape.objective!r}; choose one of {', '.join(OBJECTIVES)}")
    state = State(Past.of(dataset, rule.label))
    data = _training_set(state, until, rule, source, seed, told)
    split = Split.of(data.rows.at)
    late_at = float(data.rows.at[split.late].min())
    middle_at = float(data.rows.at[split.middle].min(initial=late_at))
    told("features", 1, 3)
    weeks = HeldOut.of(state, middle_at, late_at, rule)
    if not len(weeks.rows):  # a short log: shapes are compared on moments whose label windows reach into the latest weeks
        weeks = HeldOut.of(state, middle_at, late_at + rule.label.window_s + DAY_S, rule)
    told("features", 2, 3)
    latest = HeldOut.of(state, late_at, until, rule)
    told("features", 3, 3)
    attempts = search(Problem(data, known_at(data, middle_at, rule.label), split.middle, weeks, seed), shape, trials, _noted(told))
    best, other = _confirmed(best_of(attempts), attempts[0], data, latest, known_at(data, late_at, rule.label), seed)
    walk = walk_forward(data, late_at, best.shape, best.trees, rule.label, seed, told)
    metrics = _metrics(data, best, attempts, recall) | {"source": source}
    metrics["validation"] = _validated(walk, latest, rule.label, recall, state.past) | other
    is_topical = state.past.items.topics[:, 0] != 0
    born = popularity.born_lately(state.past.items.created_at, is_topical, is_topical[data.rows.item], data.rows.at)
    popular, metrics["validation"]["popularity"] = _popular(data, born, known_at(data, late_at, rule.label), split.late)
    told("model", 0, 1)
    final = fit(data, np.ones(len(data), bool), best.shape, best.trees, seed)
    light = distil(data.matrix, margins(final, data.matrix), seed=seed)
    metrics["light"] = {
        "trees": light.num_boosted_rounds(),
        "explained": explained(margins(light, latest.matrix), margins(final, latest.matrix)),
    }
    told("model", 1, 1)
    window, late = Window(float(state.past.at[0]), until), _typical(data, split.late, seed)
    return Trained(final, walk.calibration(), rounded(metrics), window, light, late, popular)


def _popular(data: TrainingSet, born: Floats, known: Bools, late: Bools) -> tuple[popularity.Worth, dict[str, Any]]:
    """Return what popularity is worth, and how well that was known before the latest weeks."""
    signals, label, weight = popularity.signals_of(data.matrix, born), data.rows.label, faded(data.rows)
    told = popularity.fit(signals[known], label[known], weight[known])(signals[late])
    there, standing = label[late], data.rows.weight[late]
    figures: dict[str, Any] = {"expected_over_observed": expected_over_observed(told, there, standing), "auc": auc(told, there, standing)}
    figures["interval_95"] = list(Resampled.of(data.rows.user[late]).ratio(told * standing, there * standing))
    return popularity.fit(signals, label, weight), figures


def _typical(data: TrainingSet, late: Bools, seed: int) -> Matrix:
    """Return feature rows of the latest weeks, as often as they stand for rows that were not drawn."""
    weight = data.rows.weight[late]
    drawn = np.random.default_rng(seed).choice(np.flatnonzero(late), min(len(weight), MOST_ROWS), p=weight / weight.sum())
    return np.ascontiguousarray(data.matrix[np.sort(drawn)])


def _silent(what: str, done: int, total: int, standing: str = "") -> None:
    del what, done, total, standing


def _noted(told: Progress) -> Any:
    return lambda done, trials, standing: told("trials", done, trials, standing)


def _training_set(state: State, until: float, rule: ExampleRule, source: str, seed: int, told: Progress) -> TrainingSet:
    if source not in SOURCES:
        raise InputError(f"rows come from {', '.join(SOURCES)}, not from {source!r}")
    parts: list[tuple[Rows, Any]] = []
    if source != "sends":
        days = len(moments(state.past, until, rule))
        for day, drawn in enumerate(draw(state.past, until, rule, seed)):
            parts.append((drawn, candidates_only(drawn)[0]))
            told("rows", day + 1, days)
    logged = len(parts)
    if source != "log":
        parts.append(sent(state.past, until, rule, seed))
    rows = Rows.concat([part for part, _ in parts]) if parts else None
    _refuse_too_little(rows, until, source)
    assert rows is not None
    is_sent = np.repeat(np.arange(len(parts)) >= logged, [len(part) for part, _ in parts])
    told("features", 0, 3)
    return TrainingSet.of(state, rows, np.concatenate([channel for _, channel in parts]), is_sent, rule.label)


def _refuse_too_little(rows: Rows | None, until: float, source: str) -> None:
    positives = int(rows.label.sum()) if rows else 0
    if rows is None or positives < LEAST_POSITIVES or rows.label.all():
        moment = f"{np.datetime64(int(until), 's')}Z"
        what = "sends" if source == "sends" else "engagements with young items"
        advice = "rows of the sends table" if source == "sends" else "events of four weeks or more, naming their items"
        raise InputError(f"there are {positives} {what} to learn from before {moment}, and it takes {LEAST_POSITIVES}; give {advice}")


def _metrics(data: TrainingSet, best: Attempt, attempts: list[Attempt], recall: float) -> dict[str, Any]:
    return {
        "rows": len(data),
        "positives": int(data.rows.label.sum()),
        "target_recall": recall,
        "trees": best.trees,
        "objective": best.shape.objective,
        "shape": best.shape.described(),
        "chosen": best.name,
        "trials": [attempt.described() for attempt in attempts],
    }


def _validated(walk: Walk, latest: HeldOut, rule: LabelRule, recall: float, past: Past) -> dict[str, Any]:
    """Return how a model that saw nothing of the latest weeks ranks them, beside baselines, and how its probabilities did."""
    score, baselines = margins(walk.booster, latest.matrix), latest.baselines()
    found = latest.measured(score)
    found["decisions"] = len(np.unique(latest.group))
    found["baselines"] = {name: latest.measured(values)["ndcg_at_5"] for name, values in baselines.items()}
    found["baselines_interval_95"] = {name: latest.measured(values)["interval_95"] for name, values in baselines.items()}
    found["better_by_interval_95"] = {name: latest.better(score, values) for name, values in baselines.items()}
    found |= walk.tried(rule, recall, past.events_before)
    found["threshold"]["probability"] = float(walk.calibration()(np.array([walk.threshold(recall)], np.float32))[0])
    return found


def _confirmed(
    searched: Attempt, default: Attempt, data: TrainingSet, latest: HeldOut, known: Bools, seed: int
) -> tuple[Attempt, dict[str, Any]]:
    """Return what the search found, or the default where that ranks the latest weeks better, and how the other one ranks them.

    The search did not look at those weeks, and the best of many on other weeks is often not the best there.
    """
    if searched is default:
        return default, {}
    mine, others = (
        latest.measured(margins(fit(data, known, attempt.shape, attempt.trees, seed), latest.matrix)) for attempt in (searched, default)
    )
    if others["ndcg_at_5"] > mine["ndcg_at_5"]:
        return default, {"refused": {"name": searched.name} | mine}
    return searched, {"default": others}
