"""Measures of rankings and probabilities, against their definitions."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import ndcg_score, roc_auc_score

from ranking.evaluation import auc, expected_over_observed, log_loss, ndcg


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60), st.integers(0, 9))
def test_ndcg_is_the_mean_over_groups_with_a_positive(rows: list[tuple[int, bool]], seed: int) -> None:
    group, label = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    score = np.random.default_rng(seed).permutation(len(rows)).astype(float)
    each = []
    for wanted in np.unique(group[label]):
        mine = group == wanted
        each.append(1.0 if mine.sum() == 1 else ndcg_score([label[mine]], [score[mine]], k=5))
    assert ndcg(group, score, label) == pytest.approx(np.mean(each) if each else np.nan, nan_ok=True)


def test_auc_agrees_with_sklearn_on_weighted_rows_with_ties() -> None:
    random = np.random.default_rng(0)
    score, label, weight = random.integers(0, 9, 300).astype(float), random.random(300) < 0.3, random.uniform(0.1, 3, 300)
    assert auc(score, label, weight) == pytest.approx(roc_auc_score(label, score, sample_weight=weight))


def test_measures_without_outcomes_are_not_numbers() -> None:
    nothing, score, weight = np.zeros(3, bool), np.arange(3.0), np.ones(3)
    assert np.isnan(auc(score, nothing, weight))
    assert np.isnan(expected_over_observed(score, nothing, weight))
    assert np.isnan(ndcg(np.zeros(3), score, nothing))


def test_log_loss_of_a_coin_is_log_two() -> None:
    assert log_loss(np.full(4, 0.5), np.array([True, False, True, False]), np.ones(4)) == pytest.approx(np.log(2))
