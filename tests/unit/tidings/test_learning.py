"""`tidings train`: what it points out before it begins."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.unit.ranking.worlds import world
from tidings.learning import stale


@pytest.mark.parametrize(("days", "is_told"), [(-1, False), (0.5, False), (7, False), (8, True), (400, True)])
def test_a_moment_long_after_the_last_event_is_pointed_out(days: float, is_told: bool) -> None:
    history = world(0, users=5, items=5, events=50)
    note = stale(history, history.events["at"].max() + pd.Timedelta(days=days))
    assert (note is not None) is is_told
    assert note is None or f"is {days} days before --until" in note
