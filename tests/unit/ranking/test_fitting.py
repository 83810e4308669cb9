"""A model sees what its shape says, is fitted to what its objective says, and learns from no row whose window was open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ranking.calibration import Calibration
from ranking.evaluation import auc, expected_over_observed
from ranking.examples import ExampleRule, Rows, draw
from ranking.features import FEATURES
from ranking.fitting import GROUPS, OBJECTIVES, Shape, fit, margins, trees_of
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from ranking.training_set import ALIVE, BORN, TrainingSet, candidates_only
from ranking.walk import Split, known_at, walk_forward
from tests.unit.ranking.worlds import DAYS, START, world

UNTIL = (START + pd.Timedelta(days=DAYS)).timestamp()
RULE = ExampleRule(rows=4_000)
SMALL = Shape({"max_depth": 3, "eta": 0.2, "nthread": 1}, most_trees=30, patience=5)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    past = Past.of(world(2, users=40, items=200, events=5000), RULE.label)
    rows = Rows.concat(list(draw(past, UNTIL, RULE)))
    return TrainingSet.of(State(past), rows, *candidates_only(rows), RULE.label)


def everything(data: TrainingSet) -> np.ndarray:
    return np.ones(len(data), bool)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_tells_what_is_engaged_with_from_what_is_not_on_later_rows(data: TrainingSet, objective: str) -> None:
    split = Split.of(data.rows.at)
    booster = fit(data, split.early, replace(SMALL, objective=objective), 30, 0)
    late = data.rows.take(split.late)
    assert auc(margins(booster, data.matrix[split.late]), late.label, late.weight) > 0.6


def test_the_objectives_are_fitted_to_different_targets(data: TrainingSet) -> None:
    engaged, graded, discounted = (data.targets[name] for name in ("engaged", "graded", "discounted"))
    relevant = engaged > 0
    assert set(np.unique(engaged)) == {0.0, 1.0}
    assert (graded[relevant] > 0).all()
    assert not graded[~relevant].any()
    assert len(np.unique(graded[relevant])) == 2
    days = 1 / discounted[relevant & ~np.isnan(discounted)]  # not a number: two moments of one local day
    assert np.allclose(days, np.round(days))
    assert days.max() > 1


@pytest.mark.parametrize("group", GROUPS)
def test_a_shape_without_a_group_of_features_never_asks_for_them(data: TrainingSet, group: str) -> None:
    before = data.matrix.copy()
    booster = fit(data, everything(data), replace(SMALL, without=(group,)), 10, 0)
    assert not set(booster.get_score()) & set(GROUPS[group])
    assert booster.feature_names == list(FEATURES)
    assert np.array_equal(data.matrix, before, equal_nan=True)


def test_fewer_negatives_weigh_as_much_as_all_of_them(data: TrainingSet) -> None:
    stumps = Shape({"max_depth": 1, "eta": 0.3, "nthread": 1})
    promised = []
    for share in (1.0, 0.25):
        margin = margins(fit(data, everything(data), replace(stumps, negatives=share), 30, 0), data.matrix)
        promised.append(expected_over_observed(Calibration.identity()(margin), data.rows.label, data.rows.weight))
    assert promised == pytest.approx([1.0, 1.0], abs=0.1)


def test_rows_of_a_decision_are_one_users_day_or_one_items_birth(data: TrainingSet) -> None:
    frame = pd.DataFrame(
        {"decision": data.decision, "user": data.rows.user, "item": data.rows.item, "origin": data.origin, "day": data.day}
    )
    assert (frame.groupby("decision")["origin"].nunique() == 1).all()
    assert (frame[frame["origin"] == ALIVE].groupby("decision")[["user", "day"]].nunique() == 1).all(axis=None)
    assert (frame[frame["origin"] == BORN].groupby("decision")["item"].nunique() == 1).all()


def test_early_stopping_names_the_best_number_of_trees(data: TrainingSet) -> None:
    split = Split.of(data.rows.at)
    booster = fit(data, split.early, replace(SMALL, most_trees=200), 200, 0, stop_on=split.middle)
    assert trees_of(booster) < 200
    assert trees_of(fit(data, split.early, SMALL, 7, 0)) == 7


def test_what_is_known_at_a_moment_are_rows_whose_window_was_over(data: TrainingSet) -> None:
    moment = UNTIL - 20 * DAY_S
    known = known_at(data, moment, RULE.label)
    assert known.any()
    assert data.rows.at[known].max() + RULE.label.window_s <= moment


def test_walking_forward_predicts_each_fold_with_a_model_of_the_time_before_it(data: TrainingSet) -> None:
    late_at = float(data.rows.at[Split.of(data.rows.at).late].min())
    walk = walk_forward(data, late_at, SMALL, 10, RULE.label, 0, lambda *_: None)
    assert len(walk.starts) >= 2
    assert walk.starts[-1] == late_at
    for place, start in enumerate(walk.starts):
        assert walk.rows.at[walk.fold == place].min() >= start
        again = fit(data, known_at(data, start, RULE.label), SMALL, 10, 0)
        there = (data.rows.at >= start) & (data.rows.at < [*walk.starts[1:], np.inf][place])
        assert np.array_equal(margins(again, data.matrix[there]), walk.margin[walk.fold == place])
    tried = walk.tried(RULE.label, 0.8, lambda _: np.arange(10_000))
    assert tried["measured_on"] == "later rows"
    assert len(tried["deciles"]) == len(tried["engagement_deciles"]) == 10
    assert tried["positives"] == walk.rows.label[walk.fold >= 1].sum()
    assert 0.5 < tried["threshold"]["recall"] <= 1
