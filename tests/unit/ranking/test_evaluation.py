"""Measures of rankings and probabilities, against their definitions."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import ndcg_score, roc_auc_score

from ranking.evaluation import (
    Resampled,
    auc,
    by_activity,
    cut_at,
    effective_owners,
    expected_over_observed,
    interval_of_few,
    log_loss,
    ndcg,
    reached,
    recall_at,
    rounded,
    tenths,
    threshold_at_recall,
)


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


def test_an_interval_that_resamples_users_is_wider_where_rows_of_a_user_are_alike() -> None:
    random = np.random.default_rng(0)
    alike = np.repeat(random.random(40), 25)
    by_user, by_row = Resampled.of(np.repeat(np.arange(40), 25)), Resampled.of(np.arange(1000))
    widths = [np.diff(draws.mean(alike))[0] for draws in (by_user, by_row)]
    assert widths[0] > 2 * widths[1]
    low, high = by_user.mean(alike)
    assert low < alike.mean() < high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = []
    for seed in range(200):
        values = np.repeat(np.random.default_rng(seed).normal(1, 1, 60), 5)
        low, high = Resampled.of(np.repeat(np.arange(60), 5), draws=200, seed=seed).mean(values)
        covered.append(low <= 1 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_intervals_of_few_engagements_cover_the_truth_where_draws_of_owners_would_not() -> None:
    """Three engagements are expected, of owners who bring one or two rows each; in the long run the ratio is 1."""
    random, covered, drawn = np.random.default_rng(0), [], []
    for _ in range(400):
        rows = random.integers(1, 3, 200)
        observed = rows * (random.random(200) < 0.01)
        if observed.any():
            low, high = interval_of_few(3.0, observed.astype(np.float64))
            covered.append(low <= 1 <= high)
            below, above = Resampled.of(np.arange(200), draws=100).ratio(np.full(200, 3.0 / 200), observed)
            drawn.append(below <= 1 <= above)
    assert np.mean(covered) >= 0.93 > np.mean(drawn)


def test_one_engagement_says_next_to_nothing_of_a_promise() -> None:
    low, high = interval_of_few(2.0, np.array([0.0, 1.0, 0.0]))
    assert low < 0.5
    assert high > 20
    assert np.isnan(interval_of_few(2.0, np.zeros(3))).all()


@pytest.mark.parametrize(("observed", "said"), [([2.0, 2.0, 2.0, 0.0], 3.0), ([9.0, 1.0], 100 / 82), ([5.0], 1.0), ([0.0], 0.0)])
def test_owners_who_engage_alike_count_fully_and_few_busy_ones_hide_the_rest(observed: list[float], said: float) -> None:
    assert effective_owners(np.array(observed)) == pytest.approx(said)


@pytest.mark.parametrize("of", ["rows", "engagement"])
def test_tenths_share_the_rows_or_the_promise_and_find_who_promises_too_much(of: str) -> None:
    random = np.random.default_rng(0)
    probability = random.beta(1, 9, 60_000)
    label, weight, owner = random.random(60_000) < probability, random.uniform(0.5, 2, 60_000), np.arange(60_000) % 500
    honest = tenths(probability, label, weight, owner, of=of)
    boasting = tenths(np.minimum(1.5 * probability, 1), label, weight, owner, of=of)
    assert sum(part.positives for part in honest) == label.sum()
    assert [part.upto for part in honest] == sorted(part.upto for part in honest)
    assert all(0.8 < part.expected_over_observed < 1.25 for part in honest[2:])
    assert all(part.expected_over_observed > 1.25 for part in boasting[2:9])
    assert sum(part.interval[0] <= 1 <= part.interval[1] for part in honest) >= 7
    shares = [
        (weight * (1 if of == "rows" else probability))[(probability > low) & (probability <= part.upto)].sum()
        for low, part in zip([-1.0, *(part.upto for part in honest)], honest, strict=False)
    ]
    assert np.ptp(shares) < 0.01 * np.sum(shares)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_a_threshold_keeps_the_recall_it_is_for_and_the_next_higher_score_would_not(seed: int, recall: float) -> None:
    random = np.random.default_rng(seed)
    score, label, weight = random.integers(0, 30, 80).astype(float), random.random(80) < 0.4, random.uniform(0.1, 3, 80)
    threshold = threshold_at_recall(score, label, weight, recall)
    if not label.any():
        assert threshold == -np.inf
        return
    assert recall_at(score, label, weight, threshold) >= recall - 1e-9
    assert recall_at(score, label, weight, np.nextafter(threshold, np.inf)) < recall
    assert cut_at(score, weight, threshold) == pytest.approx(weight[score < threshold].sum() / weight.sum())


def test_a_threshold_set_on_some_rows_keeps_about_its_recall_on_others() -> None:
    random = np.random.default_rng(1)
    score = random.normal(size=(2, 40_000))
    label = random.random((2, 40_000)) < 1 / (1 + np.exp(2 - score))
    threshold = threshold_at_recall(score[0], label[0], np.ones(40_000), 0.9)
    assert recall_at(score[1], label[1], np.ones(40_000), threshold) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("recall", [0.0, 1.1])
def test_a_recall_that_cannot_be_is_refused(recall: float) -> None:
    with pytest.raises(ValueError, match="a recall lies"):
        threshold_at_recall(np.ones(1), np.ones(1, bool), np.ones(1), recall)


def test_days_of_users_are_reached_once_however_much_of_them_is_engaged_with() -> None:
    user, day = np.array([1, 1, 1, 2, 2]), np.array([1, 1, 2, 1, 1])
    assert reached(user, day, np.array([True, True, False, True, False])) == 2


def test_numbers_that_are_none_become_null_in_a_report() -> None:
    assert rounded({"a": float("nan"), "b": [1.23456, (2, "x")], "c": 0.00221349}) == {"a": None, "b": [1.2346, [2, "x"]], "c": 0.002213}


def test_tenths_of_the_users_tell_apart_who_is_sent_most_and_who_answers() -> None:
    user = np.repeat(np.arange(20), 4)
    active = np.arange(20)[::-1].copy()  # user 19 did the least
    above = np.tile([True, False], 40) & (user < 10)  # the active half keeps half of its rows
    label = above & (user < 2)
    found = by_activity(active, user, above, label, np.full(80, 2.5))
    assert [part.users for part in found] == [2] * 10
    assert [part.events for part in found] == list(range(1, 20, 2))
    assert [part.share_of_volume for part in found] == [0.0] * 5 + [0.2] * 5
    assert [part.kept for part in found] == [0.0] * 5 + [0.5] * 5
    assert [part.engaged_per_kept for part in found[5:]] == [0.0] * 4 + [1.0]
    assert found[9].recall == 1.0
    assert np.isnan(found[0].recall)
    assert np.isnan(found[0].engaged_per_kept)
