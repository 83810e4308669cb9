"""Probabilities mean what they say, and no ranking changes on the way."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ranking.calibration import Calibration, fit, moved
from ranking.evaluation import expected_over_observed


def drawn(n: int = 40_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    margin = random.normal(-3, 2, n).astype(np.float32)
    truth = 1 / (1 + np.exp(-(0.6 * margin + 0.4 * np.sin(margin))))
    return margin, random.random(n) < truth, random.uniform(0.5, 2, n)


def test_each_tenth_of_fresh_rows_has_about_as_many_engagements_as_promised() -> None:
    curve = fit(*drawn(seed=0))
    margin, label, weight = drawn(seed=1)
    probability = curve(margin)
    assert expected_over_observed(probability, label, weight) == pytest.approx(1, abs=0.05)
    for part in np.array_split(np.argsort(margin), 10):
        assert 0.8 <= expected_over_observed(probability[part], label[part], weight[part]) <= 1.25


@settings(max_examples=20)
@given(st.integers(0, 50), st.sampled_from([2, 30, 400]))
def test_margins_that_differ_never_tie_or_swap(seed: int, rows: int) -> None:
    curve = fit(*drawn(rows, seed))
    margin = np.linspace(-12, 12, 200).astype(np.float32)
    assert (np.diff(curve.log_odds_of(margin)) > 0).all()
    assert (np.diff(curve(margin)) >= 0).all()


@pytest.mark.parametrize("label", [True, False])
def test_with_too_few_outcomes_of_a_kind_margins_are_taken_as_log_odds(label: bool) -> None:
    curve = fit(np.array([0.0, 1.0], np.float32), np.array([label, label]), np.ones(2))
    assert curve(np.zeros(1, np.float32)).tolist() == [0.5]


def test_a_moved_curve_keeps_its_shape_and_promises_what_came_from_few_engagements() -> None:
    """The times have changed the log-odds by a line; two numbers are learned from them, so that a tail without engagements is right too."""
    curve, random = fit(*drawn(seed=0)), np.random.default_rng(1)
    margin = random.normal(-3, 2, 4_000).astype(np.float32)
    truth = 1 / (1 + np.exp(-(0.8 * curve.log_odds_of(margin) - 1)))
    new = moved(curve, margin, random.random(4_000) < truth, np.ones(4_000))
    there = np.linspace(-12, 6, 100).astype(np.float32)
    slope, shift = np.polyfit(curve.log_odds_of(there), new.log_odds_of(there), 1)
    assert slope == pytest.approx(0.8, abs=0.15)
    assert shift == pytest.approx(-1, abs=0.3)
    np.testing.assert_allclose(new.log_odds_of(there), slope * curve.log_odds_of(there) + shift, atol=1e-6)


def test_a_moved_curve_still_rises_where_what_came_fell() -> None:
    margin, label, weight = drawn(seed=0)
    new = moved(fit(margin, label, weight), -margin, label, weight)
    assert (np.diff(new.log_odds_of(np.linspace(-12, 6, 100).astype(np.float32))) > 0).all()
    assert expected_over_observed(new(-margin), label, weight) == pytest.approx(1, abs=0.02)


def test_knots_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rise strictly"):
        Calibration(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
