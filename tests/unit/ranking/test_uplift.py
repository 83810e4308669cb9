"""Uplift: the effect of sending, found where it is, on trials whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranking.uplift import METHODS, Method, Trial, UpliftRule, area, curve, fit, gives_away, imbalance, qini, uplift


def trial(rows: int = 6000, seed: int = 0, effect: float = 0.3, share: float = 0.5) -> Trial:
    """A trial in which only those with feature 0 above 0 gain, while feature 1 alone says who engages anyway."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 4)).astype(np.float32)
    treated = random.random(rows) < share
    rate = 0.1 + 0.4 * (features[:, 1] > 0) + effect * treated * (features[:, 0] > 0)
    return Trial(features, treated, (random.random(rows) < rate).astype(np.float64))


@pytest.mark.parametrize("method", METHODS)
def test_it_finds_who_gains_rather_than_who_engages_anyway(method: Method) -> None:
    given = trial()
    found = uplift(given, UpliftRule(method=method))
    gains, engages = given.features[:, 0] > 0, given.features[:, 1] > 0
    assert found[gains].mean() - found[~gains].mean() > 0.2
    assert abs(found[engages].mean() - found[~engages].mean()) < 0.05
    assert found.mean() == pytest.approx(0.15, abs=0.04)
    assert qini(given, found, draws=100).interval[0] > 0


@pytest.mark.parametrize("method", METHODS)
def test_uneven_arms_do_not_shift_the_uplift(method: Method) -> None:
    given = trial(12_000, share=0.2)
    assert uplift(given, UpliftRule(method=method)).mean() == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_without_an_effect_the_interval_holds_0(method: Method) -> None:
    given = trial(effect=0.0)
    low, high = qini(given, uplift(given, UpliftRule(method=method)), draws=100).interval
    assert low < 0 < high


def test_no_row_is_judged_by_a_model_that_has_seen_it() -> None:
    given = trial(1000)
    found = uplift(given)
    flipped = replace(given, outcome=np.where(np.arange(1000) == 7, 1 - given.outcome, given.outcome))
    assert uplift(flipped)[7] == found[7]
    assert not np.array_equal(uplift(flipped), found)


def test_the_same_seed_gives_the_same_uplift_and_another_does_not() -> None:
    given = trial(1000)
    assert np.array_equal(uplift(given, UpliftRule(seed=3)), uplift(given, UpliftRule(seed=3)))
    assert not np.array_equal(uplift(given, UpliftRule(seed=3)), uplift(given, UpliftRule(seed=4)))


def test_outcomes_that_are_amounts_are_regressed() -> None:
    given = trial()
    scaled = replace(given, outcome=given.outcome * 20.0)
    assert uplift(scaled).mean() == pytest.approx(20 * 0.15, abs=0.8)


def test_a_random_order_has_no_qini_and_the_true_order_has_what_its_curve_says() -> None:
    given = trial(40_000)
    random, true = np.random.default_rng(1).random(len(given)), given.features[:, 0].astype(np.float64)
    assert qini(given, random, draws=100).interval[0] < 0 < qini(given, random, draws=100).interval[1]
    # All of the gain, 0.15 a person, comes in the first half: the curve is a triangle of height 0.075 above the line.
    assert qini(given, (true > 0).astype(float), draws=10).coefficient == pytest.approx(0.075 / 2, abs=0.006)


def test_the_reverse_order_has_a_negative_qini() -> None:
    given = trial()
    assert qini(given, -given.features[:, 0].astype(np.float64), draws=100).interval[1] < 0


def test_the_curve_ends_at_the_effect_whatever_the_order() -> None:
    given = trial(500)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(500)
        share, gained = curve(given.take(order), np.ones(500))
        assert (share[0], gained[0], share[-1]) == (0, 0, 1)
        assert gained[-1] == pytest.approx(given.effect)


def test_a_straight_curve_has_no_area_and_a_triangle_half_its_height() -> None:
    assert area(np.array([0, 0.3, 1.0]), np.array([0, 0.3, 1.0])) == pytest.approx(0)
    assert area(np.array([0, 0.5, 1.0]), np.array([0, 0.8, 1.0])) == pytest.approx(0.3 / 2)


def test_counting_a_row_twice_is_having_it_twice() -> None:
    given = trial(300)
    times = np.random.default_rng(2).integers(0, 3, 300)
    copied = curve(given.take(np.repeat(np.arange(300), times)), np.ones(times.sum()))
    counted = curve(given, times.astype(np.float64))
    at = np.cumsum(times)
    assert counted[0][1:] == pytest.approx(copied[0][at])
    assert counted[1][1:] == pytest.approx(copied[1][at])


def test_what_came_of_the_treatment_is_told_from_what_was_known_before() -> None:
    given = trial()
    columns = np.column_stack([given.features, given.outcome]).astype(np.float32)
    chance = imbalance(columns, given.treated)
    assert (chance[:4] > 1e-3).all()
    assert chance[4] < 1e-4


def test_what_tells_the_outcome_is_found_and_what_merely_goes_with_it_is_not() -> None:
    given = trial()
    told = given.outcome * np.random.default_rng(5).integers(0, 2, len(given))
    columns = np.column_stack([given.features, told, given.outcome + np.arange(len(given)) % 2]).astype(np.float32)
    assert gives_away(columns, given.outcome).tolist() == [False, False, False, False, True, False]


def test_a_constant_column_is_balanced() -> None:
    assert imbalance(np.ones((10, 1), np.float32), np.arange(10) < 5)[0] == 1


def test_a_fitted_function_judges_new_people() -> None:
    judge = fit(trial(), UpliftRule())
    new = np.zeros((2, 4), np.float32)
    new[:, 0] = (1, -1)
    found = judge(new)
    assert found[0] > found[1] + 0.15
