"""The value of the last unit of attention."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.thresholds import threshold

WEEK = [0.9, 0.1, 0.5, 0.7, 0.3]
values = st.lists(st.floats(0, 1), min_size=1, max_size=50, unique=True)


def test_it_is_the_value_of_the_last_send_there_is_room_for() -> None:
    assert [threshold(WEEK, np.ones(5), wanted) for wanted in (1, 2, 5)] == [0.9, 0.7, 0.1]


def test_a_sampled_row_stands_for_its_weight() -> None:
    assert threshold([0.9, 0.5, 0.1], [1, 10, 100], 11) == 0.5
    assert threshold([0.9, 0.5, 0.1], [1, 10, 100], 12) == 0.1


def test_with_fewer_rows_than_sends_everything_may_go_and_without_sends_nothing() -> None:
    assert threshold(WEEK, np.ones(5), 6) == threshold([], [], 1) == float("-inf")
    assert threshold(WEEK, np.ones(5), 0) == float("inf")


def test_rows_that_were_never_scored_say_nothing() -> None:
    assert threshold([np.nan, 0.4, np.nan, 0.2], np.ones(4), 2) == 0.2


@pytest.mark.parametrize(("weights", "wanted"), [([-1.0], 1.0), ([1.0], -1.0)])
def test_negative_weights_and_wishes_are_refused(weights: list[float], wanted: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        threshold([0.5], weights, wanted)


@given(values, st.integers(1, 50))
def test_as_many_rows_reach_it_as_sends_are_wanted(sample: list[float], wanted: int) -> None:
    least = threshold(sample, np.ones(len(sample)), wanted)
    assert sum(value >= least for value in sample) == min(wanted, len(sample))
