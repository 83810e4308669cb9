"""Trees walked by our own loop predict what XGBoost predicts with them."""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking.blocks import Matrix
from ranking.forest import LEAST_ROWS, Forest, forest

WIDTH = 6


def rows_of(random: np.random.Generator, n: int, lacking: float) -> Matrix:
    rows = random.normal(size=(n, WIDTH)).astype(np.float32)
    rows[random.random(rows.shape) < lacking] = np.nan
    return rows


def trained(rows: Matrix, seed: int = 0, rounds: int = 12) -> xgb.Booster:
    """Return trees for which it means something that a value is missing."""
    random = np.random.default_rng(seed)
    label = np.where(np.isnan(rows), random.choice([-1.0, 1.0], WIDTH), rows).sum(axis=1) + random.normal(size=len(rows)) > 0
    return xgb.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": seed}, xgb.DMatrix(rows, label), rounds)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    taught=st.sampled_from([0.0, 0.05, 0.5]),
    asked=st.sampled_from([0.0, 0.2, 1.0]),
    odd=st.sampled_from([0.0, np.inf, -np.inf, np.finfo(np.float32).max, np.finfo(np.float32).min]),
)
def test_predictions_are_the_same_to_the_last_bit(seed: int, taught: float, asked: float, odd: float) -> None:
    random = np.random.default_rng(seed)
    booster = trained(rows_of(random, 300, taught), seed)
    rows = rows_of(random, 100, asked)
    rows[random.random(rows.shape) < 0.05] = odd
    assert Forest.of(booster).margins(rows).tobytes() == booster.inplace_predict(rows, predict_type="margin").tobytes()


@pytest.mark.parametrize("rises", [1, -1])
@pytest.mark.parametrize("lacks", [True, False])
def test_a_threshold_of_minus_infinity_leads_where_xgboost_leads(rises: int, lacks: bool) -> None:
    least = np.finfo(np.float32).min  # below which XGBoost finds no threshold but minus infinity
    random = np.random.default_rng(0)
    missing = random.random(400) < 0.5
    rows = np.where(missing, np.float32(np.nan), least)[:, None]
    label = (missing == lacks) ^ (random.random(400) < 0.1)
    parameters = {"objective": "binary:logistic", "nthread": 1, "tree_method": "hist", "monotone_constraints": f"({rises})"}
    booster = xgb.train(parameters, xgb.DMatrix(rows, label), 2)
    asked = np.array([[np.nan], [least], [-np.inf], [0.0], [np.inf]], np.float32)
    assert Forest.of(booster).margins(asked).tobytes() == booster.inplace_predict(asked, predict_type="margin").tobytes()


def test_leaves_of_nothing_keep_the_sign_of_the_base_margin() -> None:
    rows = rows_of(np.random.default_rng(0), 80, 0.0)
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1, "base_score": 0.5, "eta": 0.0}, xgb.DMatrix(rows, rows[:, 0] > 0), 2)
    assert Forest.of(booster).margins(rows).tobytes() == booster.inplace_predict(rows, predict_type="margin").tobytes()


def spoiled(change: Callable[[dict[str, list[int]]], object]) -> xgb.Booster:
    """Return a booster of whose first tree something was changed in its file."""
    content = json.loads(bytes(trained(rows_of(np.random.default_rng(0), 200, 0.0)).save_raw("json")))
    change(content["learner"]["gradient_booster"]["model"]["trees"][0])
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(content).encode()))
    return booster


def test_trees_that_would_lead_the_loop_astray_are_refused() -> None:
    with pytest.raises(ValueError, match="features that it has not"):
        Forest.of(spoiled(lambda tree: tree["split_indices"].__setitem__(0, WIDTH)))
    with pytest.raises(ValueError, match="meet again"):
        Forest.of(spoiled(lambda tree: tree["left_children"].__setitem__(tree["left_children"][0], 0)))


def test_a_feature_that_is_sent_both_ways_becomes_two_columns_and_one_that_is_never_asked_none() -> None:
    booster = trained(rows_of(np.random.default_rng(3), 2_000, 0.3), rounds=40)
    ways = {
        (place, bool(goes_left))
        for tree in json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
        for place, goes_left, child in zip(tree["split_indices"], tree["default_left"], tree["left_children"], strict=True)
        if child != -1
    }
    trees = Forest.of(booster)
    assert {(place, bool(np.isnan(fill))) for place, fill in zip(trees.places.tolist(), trees.fill.tolist(), strict=True)} == ways
    assert any((place, True) in ways and (place, False) in ways for place in range(WIDTH))
    constant = np.zeros((50, WIDTH), np.float32)
    stumps = xgb.train({"nthread": 1}, xgb.DMatrix(constant, np.arange(50) % 3), 2)
    assert len(Forest.of(stumps).places) == 0
    assert np.array_equal(Forest.of(stumps).margins(constant), stumps.inplace_predict(constant, predict_type="margin"))


def test_rows_are_left_as_they_were() -> None:
    rows = rows_of(np.random.default_rng(1), 200, 0.4)
    before = rows.copy()
    Forest.of(trained(rows)).margins(rows)
    np.testing.assert_array_equal(rows, before)


def test_a_model_is_read_once_for_all_bundles_that_hold_it_and_forgotten_with_it() -> None:
    booster = trained(rows_of(np.random.default_rng(1), 200, 0.0))
    kept = weakref.ref(forest(booster))
    assert forest(booster) is kept()
    assert forest(trained(rows_of(np.random.default_rng(2), 200, 0.0))) is not kept()
    del booster
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 3 * LEAST_ROWS + 1])
def test_any_number_of_rows_is_walked_by_as_many_threads_as_the_booster_has(n: int) -> None:
    random = np.random.default_rng(1)
    booster, rows = trained(rows_of(random, 200, 0.1)), rows_of(random, n, 0.1)
    assert Forest.of(booster).threads == 1
    booster.set_param({"nthread": -1})
    assert Forest.of(booster).threads == os.cpu_count()
    booster.set_param({"nthread": 2})
    trees = Forest.of(booster)
    assert trees.threads == 2
    wanted = booster.inplace_predict(rows, predict_type="margin") if n else np.empty(0, np.float32)
    assert np.array_equal(trees.margins(rows), wanted)


def test_trees_of_any_shape_and_depth_predict_the_same() -> None:
    random = np.random.default_rng(5)
    rows = rows_of(random, 3_000, 0.2)
    data = xgb.DMatrix(rows, random.random(len(rows)) < 0.3)
    grown = {
        "objective": "binary:logistic",
        "grow_policy": "lossguide",
        "max_depth": 0,
        "max_leaves": 200,
        "tree_method": "hist",
        "nthread": 1,
    }
    for more in ({}, {"num_parallel_tree": 3, "subsample": 0.5}, {"objective": "reg:squarederror", "base_score": 0.25}):
        booster = xgb.train(grown | more, data, 5)
        trees = Forest.of(booster)
        assert trees.depths.max() > 8
        assert np.array_equal(trees.margins(rows), booster.inplace_predict(rows, predict_type="margin"))


def test_categories_are_refused() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (200, 2)).astype(np.float32)
    data = xgb.DMatrix(rows, rows[:, 0] == 1, feature_types=["c", "q"], enable_categorical=True)
    booster = xgb.train({"nthread": 1, "max_cat_to_onehot": 10}, data, 2)
    with pytest.raises(ValueError, match="categories"):
        Forest.of(booster)


@pytest.mark.parametrize(
    "parameters",
    [{"objective": "multi:softprob", "num_class": 3}, {"booster": "gblinear"}, {"booster": "dart", "rate_drop": 0.5}],
    ids=["classes", "linear", "dart"],
)
def test_what_is_no_sum_of_trees_for_one_margin_is_refused(parameters: dict[str, object]) -> None:
    rows = rows_of(np.random.default_rng(0), 200, 0.0)
    booster = xgb.train({"nthread": 1} | parameters, xgb.DMatrix(rows, np.arange(200) % 2), 2)
    with pytest.raises(ValueError, match="no sum of trees"):
        Forest.of(booster)


@pytest.mark.parametrize(
    "rows", [np.zeros((3, WIDTH - 1), np.float32), np.zeros((3, WIDTH)), np.zeros((WIDTH, 3), np.float32).T], ids=["width", "type", "order"]
)
def test_rows_that_are_no_feature_rows_are_refused(rows: Matrix) -> None:
    trees = Forest.of(trained(rows_of(np.random.default_rng(0), 200, 0.0)))
    with pytest.raises(ValueError, match=f"must be C-contiguous float32 .n, {WIDTH}."):
        trees.margins(rows)
