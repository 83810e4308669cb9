"""Trees over rows that lack nothing predict what the same trees predict over rows that do."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking.blocks import Matrix
from ranking.dense import Dense, dense

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
    dense = Dense.of(booster)
    assert np.array_equal(dense.margins(rows), booster.inplace_predict(rows, predict_type="margin"))
    assert np.array_equal(dense.predictions(rows), booster.inplace_predict(rows))


def test_a_feature_that_is_sent_both_ways_becomes_two_columns_and_one_that_is_never_asked_none() -> None:
    booster = trained(rows_of(np.random.default_rng(3), 2_000, 0.3), rounds=40)
    ways = {
        (place, bool(goes_left))
        for tree in json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
        for place, goes_left, child in zip(tree["split_indices"], tree["default_left"], tree["left_children"], strict=True)
        if child != -1
    }
    dense = Dense.of(booster)
    assert {(place, fill < 0) for place, fill in zip(dense.places.tolist(), dense.fill.tolist(), strict=True)} == ways
    assert any((place, True) in ways and (place, False) in ways for place in range(WIDTH))
    constant = np.zeros((50, WIDTH), np.float32)
    assert len(Dense.of(xgb.train({"nthread": 1}, xgb.DMatrix(constant, np.arange(50) % 2), 2)).places) == 1


def test_rows_are_left_as_they_were() -> None:
    rows = rows_of(np.random.default_rng(1), 200, 0.4)
    before = rows.copy()
    Dense.of(trained(rows)).margins(rows)
    np.testing.assert_array_equal(rows, before)


def test_a_model_is_read_once_for_all_bundles_that_hold_it_and_forgotten_with_it() -> None:
    booster = trained(rows_of(np.random.default_rng(1), 200, 0.0))
    kept = weakref.ref(dense(booster))
    assert dense(booster) is kept()
    assert dense(trained(rows_of(np.random.default_rng(2), 200, 0.0))) is not kept()
    del booster
    gc.collect()
    assert kept() is None


def test_it_uses_as_many_threads_as_the_booster_it_was_made_of() -> None:
    booster = trained(rows_of(np.random.default_rng(1), 200, 0.0))
    config = json.loads(Dense.of(booster).booster.save_config())
    assert config["learner"]["generic_param"]["nthread"] == "1"


def test_categories_are_refused() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (200, 2)).astype(np.float32)
    data = xgb.DMatrix(rows, rows[:, 0] == 1, feature_types=["c", "q"], enable_categorical=True)
    booster = xgb.train({"nthread": 1, "max_cat_to_onehot": 10}, data, 2)
    with pytest.raises(ValueError, match="categories"):
        Dense.of(booster)
