"""What a replay compares with: popular by two counts, and models that follow one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.decisions import Candidates, Lane
from simulation.playback import Engagements
from simulation.policies import Ranked, popular_week
from simulation.succession import Succession

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


def test_each_model_ranks_until_the_next_is_trained_on_what_was_known_by_then() -> None:
    trained: list[float] = []

    def named(name: str) -> Scoring:
        return Scoring(name)

    def next_at(moment: float) -> Scoring:
        trained.append(moment)
        return named(f"of {moment:.0f}")

    ranking = Succession(named("first"), since=100.0, every_s=10.0, next_at=next_at)
    heard = [ranking(rows_of(["one"]), ("in_app",), now, "scheduled").model_id for now in (100.0, 109.9, 110.0, 115.0, 139.0)]
    assert heard == ["first", "first", "of 110", "of 110", "of 130"]
    assert trained == [110.0, 130.0], "nobody was decided for between 120 and 130"


class Scoring:
    """Gives everything the same score, under a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, rows: Candidates, _channels: tuple[str, ...], _now: float, _lane: Lane, /) -> Ranked:
        return Ranked(np.full(len(rows), 0.5, np.float32), self.name)
