"""What a replay compares with: popular by a plain count of a week."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.decisions import Candidates
from simulation.playback import Engagements
from simulation.policies import popular_week

DAY_S = 86400.0
START = pd.Timestamp("2026-01-05T00:00Z")


def rows_of(items: list[str]) -> Candidates:
    """One user could be told of each of these."""
    n = len(items)
    return Candidates(
        users=["ada"],
        items=items,
        user=np.zeros(n, np.int32),
        item=np.arange(n, dtype=np.int32),
        channel=np.zeros(n, np.uint8),
        source=np.zeros(n, np.uint8),
        sources=("new_posts",),
        request=np.zeros(n, np.int32),
    )


def history(*events: tuple[str, str, float]) -> Engagements:
    """(user, item, days after the start) of each event."""
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "day"])
    frame["at"], frame["kind"] = START + pd.to_timedelta(frame.pop("day"), unit="D"), "view"
    return Engagements.of(Dataset.of({"events": frame}))


def values(engagements: Engagements, items: list[str], day: float) -> npt.NDArray[np.float32]:
    return popular_week(engagements)(rows_of(items), ("in_app",), START.timestamp() + day * DAY_S, "scheduled").value


def test_popular_in_a_week_counts_people_of_seven_days_alike_and_nothing_to_come() -> None:
    log = history(
        ("ada", "old", 0.0), ("bob", "old", 0.5), ("ada", "new", 6.0), ("bob", "new", 6.5), ("eve", "new", 6.9), ("eve", "next", 7.2)
    )
    at_seven = values(log, ["old", "new", "next", "unheard"], 7.0)
    np.testing.assert_allclose(at_seven, [2 / 3, 3 / 4, 0, 0])
    assert values(log, ["old"], 7.1)[0] < at_seven[0], "the first engagement is more than a week ago"


def test_a_person_who_returns_is_counted_once() -> None:
    log = history(("ada", "one", 0.0), ("ada", "one", 1.0), ("ada", "one", 2.0), ("ada", "two", 0.0), ("bob", "two", 0.1))
    one, two = values(log, ["one", "two"], 3.0)
    assert one == np.float32(0.5) < two


def test_before_anything_happened_nothing_is_popular() -> None:
    assert values(history(("ada", "one", 5.0)), ["one"], 1.0) == [0.0]
