"""What a week's budget leaves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from budgets.allowance import DEFAULT_BUDGET, MAX_WEEKLY, allowance, weekly_budget
from lake.profiles import DEFAULT_BUDGET as PROFILES_DEFAULT

DEFAULT = np.array([3, 10], np.uint8)


def budget_of(*rows: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.array(rows, np.uint8)


def test_a_user_who_set_nothing_has_the_channels_default() -> None:
    assert weekly_budget(budget_of((DEFAULT_BUDGET, DEFAULT_BUDGET), (0, 7)), DEFAULT).tolist() == [[3, 10], [0, 7]]
    assert DEFAULT_BUDGET == PROFILES_DEFAULT


def test_a_learned_budget_stands_in_the_place_of_the_default_and_moves_with_the_dial_as_it_does() -> None:
    nothing, learned = budget_of((DEFAULT_BUDGET, DEFAULT_BUDGET)), budget_of((5, 0), (1, 255))
    own = budget_of((2, DEFAULT_BUDGET), (DEFAULT_BUDGET, DEFAULT_BUDGET))
    assert weekly_budget(own, DEFAULT, learned=learned).tolist() == [[2, 10], [0, 254]]
    assert weekly_budget(nothing, DEFAULT, np.array([2], np.int8), learned[:1]).tolist() == [[8, 20]]


def test_channels_beyond_the_deployments_are_left_out() -> None:
    assert weekly_budget(np.full((2, 16), DEFAULT_BUDGET, np.uint8), DEFAULT).shape == (2, 2)


def test_a_dial_turned_up_raises_the_default_but_not_what_the_user_set() -> None:
    dial = np.array([2, 2], np.int8)
    assert weekly_budget(budget_of((DEFAULT_BUDGET, DEFAULT_BUDGET), (4, 4)), DEFAULT, dial).tolist() == [[6, 20], [4, 4]]


def test_a_dial_turned_down_leaves_at_least_one_of_what_was_one() -> None:
    dial = np.array([-2, -2], np.int8)
    assert weekly_budget(budget_of((DEFAULT_BUDGET, DEFAULT_BUDGET), (1, 0)), DEFAULT, dial).tolist() == [[1, 3], [1, 0]]


@given(arrays(np.uint8, (5, 2)), arrays(np.int8, 5, elements=st.integers(-2, 2)), arrays(np.uint8, 2, elements=st.integers(0, MAX_WEEKLY)))
def test_turning_the_dial_up_never_lowers_a_budget(
    budget: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
    dial: np.ndarray[tuple[int], np.dtype[np.int8]],
    default: np.ndarray[tuple[int], np.dtype[np.uint8]],
) -> None:
    less, more = (weekly_budget(budget, default, np.clip(dial + step, -2, 2).astype(np.int8)) for step in (0, 1))
    assert np.all(less <= more)
    assert np.all(more <= MAX_WEEKLY)
    assert np.array_equal(weekly_budget(budget, default), weekly_budget(budget, default, np.zeros(5, np.int8)))


def test_the_allowance_is_what_is_left_and_never_negative() -> None:
    left = allowance(np.array([[1, 3], [5, 0]], np.int16), budget_of((3, 3), (3, MAX_WEEKLY)))
    assert left.tolist() == [[2, 0], [0, MAX_WEEKLY]]
    assert left.dtype == np.int16
