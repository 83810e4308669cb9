"""What counts as caring."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.labels import DAY_S, LabelRule, is_known, label

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


def test_kinds_that_say_no_are_no_engagement_and_weak_ones_are_worth_what_the_rule_says() -> None:
    kinds = np.array(["like", "unsubscribe", "view"], object)
    assert RULE.is_engagement(kinds).tolist() == [True, False, True]
    assert LabelRule(weak_weight=0.25).weights(kinds).tolist() == [1.0, 0.0, 0.25]
