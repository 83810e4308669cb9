"""`tidings train`: what it points out before it begins, and what it shows on the way."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.progress import Progress

from tests.unit.ranking.worlds import world
from tidings.learning import _drawn, stale


@pytest.mark.parametrize(("days", "is_told"), [(-1, False), (0.5, False), (7, False), (8, True), (400, True)])
def test_a_moment_long_after_the_last_event_is_pointed_out(days: float, is_told: bool) -> None:
    history = world(0, users=5, items=5, events=50)
    note = stale(history, history.events["at"].max() + pd.Timedelta(days=days))
    assert (note is not None) is is_told
    assert note is None or f"is {days} days before --until" in note


def test_the_bar_of_the_trials_tells_how_far_they_are_and_the_best_so_far() -> None:
    bars = Progress(disable=True)
    told = _drawn(bars)
    told("rows", 1, 4)
    for done, best in enumerate(("0.4100 (default, logistic)", "0.4212 (trial 1, ndcg)")):
        told("trials", done, 30, f"best NDCG@5 {best}")
    rows, trials = bars.tasks
    assert (rows.description, rows.completed, rows.total) == ("rows", 1, 4)
    assert (trials.description, trials.completed, trials.total) == ("trials: best NDCG@5 0.4212 (trial 1, ndcg)", 1, 30)
