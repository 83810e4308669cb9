"""Users in tenths: every tenth as many of them, the least active first, and nothing lost in the sums."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulation.tenths import tenth_of, volumes


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_tenths_are_of_one_size_to_within_a_user_and_ordered_by_activity(active: list[int]) -> None:
    before = np.array(active)
    tenth = tenth_of(before)
    assert np.ptp(np.bincount(tenth, minlength=10)) <= 1
    order = np.lexsort((np.arange(len(active)), before))
    assert (np.diff(tenth[order]) >= 0).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.floats(0, 1)), max_size=60))
def test_the_tenths_together_are_the_whole(users: list[tuple[int, int, float]]) -> None:
    active, sends = (np.array([user[part] for user in users], np.int64) for part in (0, 1))
    engaged = np.floor(sends * np.array([user[2] for user in users])).astype(np.int64)
    found = volumes(tenth_of(active), active, sends, engaged)
    assert sum(part["sends"] for part in found) == sends.sum()
    assert sum(part["engaged_sends"] for part in found) == engaged.sum()
    assert sum(part["users"] for part in found) == len(users)
    assert all(part["engaged_per_send"] is None or 0 <= part["engaged_per_send"] <= 1 for part in found)
    assert all((part["engaged_per_send"] is None) == (part["sends"] == 0) for part in found)
