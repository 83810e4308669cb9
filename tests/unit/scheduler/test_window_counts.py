"""How many windows a week has: by what may be sent, and by when somebody is likely to look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.meta import Meta
from lake.profiles import MAX_WINDOWS, NO_WINDOW, Profiles, blank
from scheduler.window_counts import WindowRule, spread, window_counts

META = Meta(shards=1, channels=("in_app", "email"))
RULE = WindowRule(("in_app",), {"in_app": 10})


def week(*peaks: int) -> npt.NDArray[np.float32]:
    """Return the scores of someone who looks at these hours of the week, and hardly at any other."""
    scores = np.full((1, 168), 0.001, np.float32)
    scores[0, list(peaks)] = 1
    return np.asarray(scores / scores.sum(), np.float32)


DAILY = week(*range(9, 168, 24))


def counted(scores: npt.NDArray[np.float32], profiles: Profiles | None = None, rule: WindowRule = RULE) -> int:
    return int(window_counts(scores, blank(1) if profiles is None else profiles, META, rule)[0])


def test_a_day_has_a_window_and_a_second_one_where_two_of_its_hours_are_as_likely() -> None:
    assert counted(DAILY) == 7
    assert counted(week(*range(9, 168, 24), *range(20, 168, 24))) == 14
    assert counted(week(*range(9, 168, 24), 20, 44)) == 9


def test_days_on_which_somebody_hardly_ever_looks_have_none_yet_nobody_has_fewer_than_three() -> None:
    assert counted(week(9, 33, 57, 81)) == 4
    assert counted(week(130)) == 3


def test_a_budget_of_ones_own_learned_or_turned_down_leaves_twice_as_many_windows_as_units() -> None:
    own, learned, down, other = (blank(1) for _ in range(4))
    own["budget"][:, 0], learned["learned"][:, 0], other["budget"][:, 1] = 2, 2, 1
    down["dial"] = -2
    assert [counted(DAILY, each) for each in (own, learned, down, other)] == [4, 2, 6, 7]
    own["budget"][:, 0] = 0
    assert counted(DAILY, own) == 1
    assert counted(DAILY, rule=WindowRule(("in_app", "email"), {"in_app": 1, "email": 1})) == 4


@given(arrays(np.float32, (4, 168), elements=st.floats(0.015625, 1, width=32)), st.lists(st.integers(0, 254), min_size=4, max_size=4))
def test_windows_are_as_many_as_counted_distinct_and_in_order(scores: npt.NDArray[np.float32], budgets: list[int]) -> None:
    profiles = blank(4)
    profiles["budget"][:, 0] = budgets
    counts = window_counts(scores, profiles, META, RULE)
    windows = spread(scores, counts, np.arange(4, dtype=np.uint16))
    assert windows.shape == (4, MAX_WINDOWS)
    assert ((windows != NO_WINDOW).sum(axis=1) == counts).all()
    for row, count in zip(windows, counts.tolist(), strict=True):
        assert (np.diff(row[:count].astype(int)) > 0).all()
