"""The picture of a user's week."""

from __future__ import annotations

import numpy as np
import pytest

from lake.errors import InputError
from scheduler.send_time import WEEK_HOURS, SendTimes
from tidings.timing import ANYONE, week_of


def known() -> SendTimes:
    """One user who looks on Wednesdays at 20h mostly, in a population that does so at 9h on Mondays."""
    scores, population = (np.full(WEEK_HOURS, 0.5 / (WEEK_HOURS - 1), np.float32) for _ in range(2))
    scores[2 * 24 + 20], population[9] = 0.5, 0.5
    return SendTimes(np.array(["ann"], object), scores[None], population, np.array([12.5], np.float32), np.array([2], np.uint8), {})


def test_a_picture_is_darkest_at_the_likeliest_hour_and_says_what_it_rests_on() -> None:
    report, picture = week_of(known(), "ann")
    assert report["rests_on"] == "own_history"
    assert report["evidence_hours"] == 12.5
    assert np.asarray(report["best_hours_of_week"])[0] == 68
    assert [list(column.cells)[2] for column in picture.columns].index("\u2588\u2588") == 21
    assert picture.row_count == 7


def test_everybody_has_a_picture_too_and_a_stranger_is_refused() -> None:
    report, _ = week_of(known(), ANYONE)
    assert report["rests_on"] == "population"
    with pytest.raises(InputError, match="no user 'bob'"):
        week_of(known(), "bob")
