"""What a replay posts to the urgent lane, to whom, and what is told of it."""

from __future__ import annotations

import pandas as pd
import pytest

from lake.follows import Followed, MemoryFollowStore
from lake.meta import Meta
from simulation.urgent_replay import Audiences, Posted, urgent_report

ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "kind": ["room", "post", "post", None],
        "topics": [["net"], ["net", "arts"], None, ["arts"]],
    }
)


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["all"], ["a", "b", "c", "d"]),
        (["kind:room"], ["a"]),
        (["topic:net"], ["a", "b"]),
        (["kind:room", "topic:arts"], ["a", "b", "d"]),
        (["kind:nothing"], []),
    ],
)
def test_items_are_urgent_by_kind_or_topic_or_all_of_them(words: list[str], chosen: list[str]) -> None:
    assert ITEMS.loc[Posted.of(words).among(ITEMS), "item_id"].tolist() == chosen


def test_a_share_is_about_that_many_and_the_same_ones_in_any_part_of_the_items() -> None:
    many = pd.DataFrame({"item_id": [f"item-{number}" for number in range(4_000)]})
    some = Posted.of(["0.25"]).among(many)
    assert 900 < some.sum() < 1_100
    assert (Posted.of(["0.25"]).among(many.iloc[100:]) == some[100:]).all()


@pytest.mark.parametrize("words", [["most"], ["0"], ["1.5"], ["kind:"], ["0.5", "0.2"], ["0.5", "kind:room"], ["nan"]])
def test_what_means_nothing_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"share"):
        Posted.of(words)


def test_an_item_is_for_those_who_follow_its_topics_or_author_or_nothing_at_all() -> None:
    follows = MemoryFollowStore(Meta(shards=2))
    users = ["ann", "bob", "cid", "dee"]
    follows.put(users, [Followed(("net",)), Followed(("arts", "net")), Followed((), ("eve",)), Followed()])
    audiences = Audiences.of(users, follows)
    assert audiences.find({"item_id": "a", "topics": ["net"]}) == ["ann", "bob", "dee"]
    assert audiences.find({"item_id": "b", "topics": ["arts", "net"], "author_id": "eve"}) == users
    assert audiences.find({"item_id": "c"}) == ["dee"]


def test_what_was_held_is_told_of_by_what_became_of_it() -> None:
    rows = pd.DataFrame(
        [
            ("ann", "x", "urgent", "urgent", "send"),
            ("bob", "x", "urgent", "urgent", "hold"),
            ("cid", "x", "urgent", "urgent", "hold"),
            ("dee", "x", "urgent", "urgent", "hold"),
            ("bob", "x", "scheduled", "held", "over_budget"),
            ("bob", "x", "scheduled", "held", "send"),
            ("cid", "x", "scheduled", "held", "over_budget"),
            ("ann", "y", "scheduled", "new_posts", "send"),
        ],
        columns=["user_id", "item_id", "lane", "source", "disposition"],
    )
    assert urgent_report(rows) == {
        "items": 1,
        "rows": 4,
        "dispositions": {"send": 1, "hold": 3},
        "held": 3,
        "held_sent": 1,
        "held_again": 1,
    }
