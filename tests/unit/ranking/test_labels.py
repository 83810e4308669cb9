"""What counts as caring."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ranking.labels import DAY_S, LabelRule, collapsed, discounted, graded, is_known, is_over, label, local_day

RULE = LabelRule()


@pytest.mark.parametrize(
    ("engaged_after_s", "counts"),
    [(0.0, True), (1.0, True), (7 * DAY_S - 1, True), (7 * DAY_S, False), (-1.0, False), (np.nan, False)],
)
def test_an_engagement_counts_from_the_moment_until_the_window_ends(engaged_after_s: float, counts: bool) -> None:
    assert label(np.array([1000.0]), np.array([1000.0 + engaged_after_s]), RULE).tolist() == [counts]


def test_a_row_without_engagement_is_a_negative_only_once_its_window_is_over() -> None:
    at, engaged_at = np.array([0.0, 1.0, 1.0]), np.array([np.nan, np.nan, 5.0])
    assert is_known(at, engaged_at, 7 * DAY_S, RULE).tolist() == [True, False, True]
    assert is_over(at, 7 * DAY_S, RULE).tolist() == [True, False, False]


def test_kinds_that_say_no_are_no_engagement_and_others_are_worth_what_the_rule_says() -> None:
    kinds = np.array(["like", "unsubscribe", "view"], object)
    assert RULE.is_engagement(kinds).tolist() == [True, False, True]
    assert LabelRule(weak_weight=0.25).weights(kinds).tolist() == [1.0, 0.0, 0.25]
    assert LabelRule(worth=(("like", 0.5), ("view", 0.1))).weights(kinds).tolist() == [0.5, 0.0, 0.1]


@pytest.mark.parametrize("worth", [0.0, -1.0, 1.5, np.nan])
def test_a_worth_outside_zero_to_one_is_refused(worth: float) -> None:
    with pytest.raises(ValueError, match="kind like must be worth"):
        LabelRule(worth=(("like", worth),))


def test_a_graded_label_is_the_best_engagement_within_the_window() -> None:
    worth = np.array([0.3, 1.0])
    first = np.array([[5.0, np.nan], [5.0, 6.0], [np.nan, 8 * DAY_S], [np.nan, np.nan]])
    assert graded(np.zeros(4), first, worth, RULE).tolist() == [0.3, 1.0, 0.0, 0.0]


def test_days_are_those_of_the_users_clock() -> None:
    assert local_day(np.full(3, 1.5 * DAY_S), np.array([0.0, 13 * 60, -13 * 60])).tolist() == [1, 2, 0]


def test_updates_of_one_entity_are_one_notification_a_day_and_the_first_stands_for_them() -> None:
    user, day, entity = np.array([1, 1, 1, 1, 2]), np.array([0, 0, 0, 1, 0]), np.array([7, 7, 8, 7, 7])
    kept, place = collapsed(user, day, entity, np.array([20.0, 10.0, 0.0, 30.0, 40.0]))
    assert sorted(kept.tolist()) == [1, 2, 3, 4]
    assert kept[place].tolist() == [1, 1, 2, 3, 4]


ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=60)


@given(ROWS)
def test_every_day_with_something_relevant_counts_once_however_much_was_relevant(rows: list[tuple[int, int, bool]]) -> None:
    user, day, relevant = (np.array([row[place] for row in rows], kind) for place, kind in enumerate((np.int64, np.int64, bool)))
    target = discounted(user, day, relevant)
    count = Counter((one, when) for one, when, cared in rows if cared)
    assert target.tolist() == [1 / count[one, when] if cared else 0.0 for one, when, cared in rows]
    assert target.sum() == pytest.approx(len(count))


@given(ROWS)
def test_collapsing_keeps_one_row_of_each_user_day_and_entity(rows: list[tuple[int, int, bool]]) -> None:
    user, day, entity = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    kept, place = collapsed(user, day, entity, np.arange(len(rows), dtype=float))
    assert len(kept) == len({*zip(user.tolist(), day.tolist(), entity.tolist(), strict=True)})
    for column in (user, day, entity):
        assert np.array_equal(column[kept][place], column)
