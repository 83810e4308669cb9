"""Which shape of model ranks later decisions best: the default, and as many others as there are trials, found by Optuna."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import xgboost as xgb

from ranking.fitting import GROUPS, OBJECTIVES, Shape, fit, margins, trees_of
from ranking.held_out import HeldOut
from ranking.past import Bools
from ranking.training_set import TrainingSet

MOST_TREES, PATIENCE = 300, 25
REPORT_EVERY = 10
"""Trees between two looks at a trial's ranking, at which it may be pruned."""
OPTIONAL = tuple(name for name in GROUPS if name not in ("user", "item"))
NEGATIVES = (0.1, 0.25, 0.5)
"""Shares of negatives to try: the positives are few, and a fit takes as long as it has rows."""

Note = Callable[[int, int, str], None]
"""Called with how many trials are over, of how many, and what the best has reached."""


@dataclass(frozen=True)
class Attempt:
    """One shape, how many trees it was best with, what NDCG@5 it reached on later decisions, and whether it was pruned on the way."""

    name: str
    shape: Shape
    trees: int
    ndcg: float
    pruned: bool = False

    def described(self) -> dict[str, Any]:
        """Return the attempt for reports."""
        return {"name": self.name, **self.shape.described(), "trees": self.trees, "ndcg_at_5": self.ndcg, "pruned": self.pruned}


@dataclass(frozen=True)
class Problem:
    """What attempts are fitted to, and of the weeks after that, the rows they stop on and the whole decisions they are compared by."""

    data: TrainingSet
    early: Bools
    middle: Bools
    held_out: HeldOut
    seed: int


def search(problem: Problem, default: Shape, trials: int, note: Note, *, objectives: tuple[str, ...] = tuple(OBJECTIVES)) -> list[Attempt]:
    """Return the attempt with the default shape and one for each trial, in order; the same seed gives the same attempts.

    Trials are drawn by a tree-structured Parzen estimator (Bergstra et al. 2011) and pruned where, after as many trees,
    they rank worse than the median of those before.
    """
    attempts = [_attempted(problem, "default", default)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=problem.seed, n_startup_trials=min(10, max(trials // 3, 1)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=5 * REPORT_EVERY)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for place in range(trials):
        note(place, trials, _reached(attempts))
        trial = study.ask()
        attempt = _attempted(problem, f"trial {place + 1}", shape_of(trial, objectives), trial)
        pruned = optuna.trial.TrialState.PRUNED
        study.tell(trial, None if attempt.pruned else _or_worst(attempt.ndcg), pruned if attempt.pruned else None)
        attempts.append(attempt)
    note(trials, trials, _reached(attempts))
    return attempts


def best_of(attempts: list[Attempt]) -> Attempt:
    """Return the first of the best that were not pruned; the default where nothing could be measured."""
    return attempts[int(np.argmax([-2.0 if attempt.pruned else _or_worst(attempt.ndcg) for attempt in attempts]))]


def shape_of(trial: optuna.trial.Trial, objectives: tuple[str, ...] = tuple(OBJECTIVES)) -> Shape:
    """Return the shape that a trial suggests."""
    return Shape(
        parameters={
            "max_depth": trial.suggest_int("max_depth", 3, 8),
            "eta": trial.suggest_float("eta", 0.04, 0.2, log=True),
            "min_child_weight": trial.suggest_float("min_child_weight", 1, 100, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1),
            "lambda": trial.suggest_float("lambda", 1, 50, log=True),
        },
        most_trees=MOST_TREES,
        patience=PATIENCE,
        objective=str(trial.suggest_categorical("objective", objectives)),
        without=tuple(group for group in OPTIONAL if trial.suggest_categorical(f"with_{group}", (True, False)) is False),
        negatives=float(trial.suggest_categorical("negatives", NEGATIVES)),
    )


class Pruning(xgb.callback.TrainingCallback):
    """Tells a trial every few trees how it ranks the decisions held out, and stops the fit where others ranked better by then."""

    def __init__(self, trial: optuna.trial.Trial, held_out: HeldOut) -> None:
        self._trial, self._held_out = trial, held_out
        self._score: npt.NDArray[np.float32] = np.zeros(len(held_out.rows), np.float32)
        self.pruned = False

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: xgb.callback.TrainingCallback.EvalsLog) -> bool:
        """Add the newest trees to the score; True stops the fit."""
        del evals_log
        if (epoch + 1) % REPORT_EVERY or not len(self._score):
            return False
        newest = (epoch + 1 - REPORT_EVERY, epoch + 1)
        self._score += model.inplace_predict(self._held_out.matrix, iteration_range=newest, predict_type="margin")
        self._trial.report(_or_worst(self._held_out.ndcg(self._score)), epoch + 1)
        self.pruned = self._trial.should_prune()
        return self.pruned


def _attempted(problem: Problem, name: str, shape: Shape, trial: optuna.trial.Trial | None = None) -> Attempt:
    pruning = [Pruning(trial, problem.held_out)] if trial else []
    booster = fit(problem.data, problem.early, shape, shape.most_trees, problem.seed, stop_on=problem.middle, callbacks=pruning)
    trees = trees_of(booster)
    reached = problem.held_out.ndcg(margins(booster[:trees], problem.held_out.matrix))
    return Attempt(name, shape, trees, reached, any(callback.pruned for callback in pruning))


def _reached(attempts: list[Attempt]) -> str:
    best = best_of(attempts)
    return f"best NDCG@5 {best.ndcg:.4f} ({best.name}, {best.shape.objective})"


def _or_worst(ndcg: float) -> float:
    return ndcg if np.isfinite(ndcg) else -1.0
