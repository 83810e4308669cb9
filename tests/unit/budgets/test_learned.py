"""Budgets that are learned: no sharing of the same total adds more, and what was assigned tells who is glad of more."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from budgets.learned import LearnedConfig, Weeks, allocate, fit, marginal_gains

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CURVES = arrays(np.float64, (4, 4), elements=st.integers(-20, 20).map(float))


def worth(net: Floats, budgets: tuple[int, ...]) -> float:
    return float(net[np.arange(len(net)), list(budgets)].sum())


def best_of_all(net: Floats, total: int) -> float:
    return max(worth(net, each) for each in product(range(net.shape[1]), repeat=len(net)) if sum(each) <= total)


def concave(steps: Floats) -> Floats:
    falling = -np.sort(-steps, axis=1)
    return np.column_stack([np.zeros(len(steps)), np.cumsum(falling, axis=1)])


@given(CURVES, st.integers(0, 14))
def test_no_sharing_of_the_same_total_adds_more_where_curves_are_concave(steps: Floats, total: int) -> None:
    net = concave(steps[:, :3])
    found = allocate(net, total)
    assert int(found.budgets.sum()) <= total
    assert worth(net, tuple(found.budgets.tolist())) == pytest.approx(best_of_all(net, total))


@given(CURVES, st.integers(0, 14))
def test_whatever_the_curves_it_is_the_best_sharing_of_what_it_uses_and_lacks_less_than_one_user_of_the_best(
    net: Floats, total: int
) -> None:
    found = allocate(net, total)
    used = int(found.budgets.sum())
    mine = worth(net, tuple(found.budgets.tolist()))
    assert used <= total
    assert mine == pytest.approx(best_of_all(net, used))
    assert mine >= best_of_all(net, total) - found.multiplier * (net.shape[1] - 2) - 1e-9


@given(CURVES)
def test_the_concave_curve_lies_above_its_own_touches_both_ends_and_falls_in_slope(net: Floats) -> None:
    gains = marginal_gains(net)
    above = net[:, :1] + np.column_stack([np.zeros(len(net)), np.cumsum(gains, axis=1)])
    assert (above >= net - 1e-9).all()
    assert above[:, -1] == pytest.approx(net[:, -1])
    assert (np.diff(gains, axis=1) <= 1e-9).all()


def test_nobody_is_given_a_unit_that_takes_away_and_one_multiplier_cuts_all() -> None:
    net = np.array([[0.0, 5.0, 8.0, 9.0], [0.0, 4.0, 4.5, 4.0], [0.0, -1.0, -3.0, -9.0]])
    assert allocate(net, 100).budgets.tolist() == [3, 2, 0]
    assert allocate(net, 100).multiplier == 0.0
    assert (allocate(net, 3).budgets.tolist(), allocate(net, 3).multiplier) == ([2, 1, 0], 1.0)
    assert allocate(np.zeros((0, 4)), 5).budgets.tolist() == []


def test_a_curve_that_pays_only_as_a_whole_is_taken_whole_or_not_at_all() -> None:
    net = np.array([[0.0, 0.0, 0.0, 9.0], [0.0, 2.0, 2.5, 2.6]])
    assert allocate(net, 2).budgets.tolist() == [0, 0]
    assert allocate(net, 3).budgets.tolist() == [3, 0]
    assert allocate(net, 4).budgets.tolist() == [3, 1]


def weeks(n: int = 4_000) -> Weeks:
    """Half of the users engage more with every send up to the tenth, the others with the first alone and leave by the others."""
    rng = np.random.default_rng(5)
    glad = rng.random(n) < 0.5
    assigned = rng.integers(0, 11, n)
    expected = np.where(glad, 0.5 + 0.4 * assigned, 0.5 + 0.6 * np.minimum(assigned, 1))
    leaving = np.where(glad, 0.001, 0.01 * assigned)
    features = np.column_stack([glad + rng.normal(0, 0.1, n), rng.normal(0, 1, n)])
    return Weeks(features, assigned, rng.poisson(expected).astype(np.float64), rng.binomial(1, leaving).astype(np.float64))


def test_those_who_are_glad_of_more_get_more_and_those_who_leave_by_it_little() -> None:
    responses = fit(weeks(), LearnedConfig(rounds=60))
    engagement, opt_out = responses.curves(np.array([[1.0, 0.0], [0.0, 0.0]] * 50))
    assert engagement.shape == opt_out.shape == (100, 11)
    assert (np.diff(engagement, axis=1) >= -1e-9).all()
    assert (np.diff(opt_out, axis=1) >= -1e-9).all()
    assert engagement[0, 10] == pytest.approx(4.5, rel=0.15)
    budgets = allocate(engagement - 20 * opt_out, 400).budgets
    assert budgets[::2].mean() > 6
    assert budgets[1::2].mean() < 2


def test_where_nobody_left_no_opt_outs_are_expected() -> None:
    told = weeks(500)
    kept = Weeks(told.features, told.assigned, told.engagements, np.zeros(len(told)))
    assert not fit(kept, LearnedConfig(rounds=5)).curves(told.features)[1].any()


def test_what_can_not_be_learned_from_is_refused() -> None:
    nothing = np.zeros(0)
    with pytest.raises(ValueError, match="assign budgets at random first"):
        fit(Weeks(np.zeros((0, 2)), nothing.astype(np.int64), nothing, nothing))
    with pytest.raises(ValueError, match="row of features"):
        Weeks(np.zeros((3, 2)), np.zeros(2, np.int64), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="opt_outs of user-weeks are counts"):
        Weeks(np.zeros((1, 2)), np.zeros(1, np.int64), np.zeros(1), np.full(1, np.nan))
    with pytest.raises(ValueError, match="of -1"):
        allocate(np.zeros((1, 2)), -1)
    with pytest.raises(ValueError, match="between 1 and 254"):
        LearnedConfig(most=0)
