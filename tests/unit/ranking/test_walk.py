"""What earlier folds say of later ones: all of them have a say, the latest the most, and rows that stand for many count as many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb

from ranking.evaluation import expected_over_observed, recall_at
from ranking.examples import Rows
from ranking.labels import DAY_S, LabelRule
from ranking.walk import HALF_LIFE_S, Walk, faded

FOLD_S = 40 * DAY_S


def walk_of(levels: list[float], seed: int = 0, per_fold: int = 20_000) -> Walk:
    """Return a walk whose margins are off by `levels` in log-odds, fold by fold."""
    random = np.random.default_rng(seed)
    fold = np.repeat(np.arange(len(levels)), per_fold)
    at = np.sort(random.uniform(0, FOLD_S, (len(levels), per_fold))).ravel() + fold * FOLD_S
    margin = random.normal(-3, 1.5, len(fold)).astype(np.float32)
    label = random.random(len(fold)) < 1 / (1 + np.exp(-(margin + np.array(levels)[fold])))
    user = random.integers(0, 500, len(fold)).astype(np.int32)
    rows = Rows(user, user, at, label, np.ones(len(fold)))
    return Walk(rows, margin, fold, tuple(np.arange(len(levels)) * FOLD_S), xgb.Booster())


def thinned(walk: Walk, share: float) -> Walk:
    """Return a walk with a share of its negatives, each of which stands for as many more."""
    there = walk.rows.label | (np.random.default_rng(1).random(len(walk.rows)) < share)
    rows = walk.rows.take(there)
    rows = replace(rows, weight=np.where(rows.label, 1.0, 1 / share))
    return replace(walk, rows=rows, margin=walk.margin[there], fold=walk.fold[there])


def test_weights_halve_with_the_age_of_rows_and_keep_their_proportions_within_a_moment() -> None:
    at = np.array([0.0, HALF_LIFE_S, 2 * HALF_LIFE_S, 2 * HALF_LIFE_S])
    codes = np.zeros(4, np.int32)
    rows = Rows(codes, codes, at, np.ones(4, bool), np.array([1.0, 1.0, 1.0, 7.0]))
    assert faded(rows).tolist() == [0.25, 0.5, 1.0, 7.0]
    assert len(faded(rows.take(np.empty(0, np.intp)))) == 0


def promised_at_3(levels: list[float]) -> float:
    """Return the log-odds promised where the model says -3."""
    return float(walk_of(levels).calibration().log_odds_of(np.array([-3.0], np.float32))[0])


def test_a_level_that_swings_is_promised_near_its_mean_and_a_trend_nearer_to_its_end() -> None:
    assert promised_at_3([0.0, 0.0, 0.0, 0.0]) == pytest.approx(-3, abs=0.1)
    assert promised_at_3([0.6, -0.6, 0.6, -0.6]) == pytest.approx(-3, abs=0.3)
    assert -2.9 < promised_at_3([-0.9, -0.3, 0.3, 0.9]) < -2.1


def test_rows_that_stand_for_many_promise_and_keep_the_same_as_all_of_them() -> None:
    everything = walk_of([0.3, 0.3, 0.3])
    few = thinned(everything, 0.2)
    probe = np.linspace(-6, 0, 20).astype(np.float32)
    assert few.calibration().log_odds_of(probe) == pytest.approx(
        everything.calibration().log_odds_of(probe), abs=0.3
    )  # a weight left out shifts all by 1.6
    assert few.threshold(0.9) == everything.threshold(0.9)
    tried = [walk.tried(LabelRule(), 0.9, lambda _: np.arange(500)) for walk in (few, everything)]
    for name in ("expected_over_observed", "auc", "log_loss"):
        assert tried[0][name] == pytest.approx(tried[1][name], rel=0.03)


def test_what_is_measured_on_later_folds_holds_on_a_world_that_does_not_change() -> None:
    found = walk_of([0.5] * 4).tried(LabelRule(), 0.9, lambda _: np.arange(500))
    assert found["measured_on"] == "later rows"
    assert 0.95 <= found["expected_over_observed"] <= 1.05
    assert all(0.8 <= tenth["expected_over_observed"] <= 1.25 for tenth in found["engagement_deciles"])
    assert found["threshold"]["recall"] == pytest.approx(0.9, abs=0.02)


def test_the_curve_and_the_threshold_hold_on_rows_after_the_walk() -> None:
    walk, later = walk_of([0.4, 0.4, 0.4], seed=2), walk_of([0.4], seed=3)
    promised = walk.calibration()(later.margin)
    assert expected_over_observed(promised, later.rows.label, later.rows.weight) == pytest.approx(1, abs=0.05)
    assert recall_at(later.margin, later.rows.label, later.rows.weight, walk.threshold(0.9)) == pytest.approx(0.9, abs=0.02)
