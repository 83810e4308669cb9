"""Sources: what each proposes, to whom, in which order, and never anything that is over or yet to come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from budgets.ledger import MemoryLedger
from lake.follows import Followed, MemoryFollowStore
from lake.items import ItemTable, MemoryItemStore
from lake.meta import Meta
from scheduler.held import Held, MemoryHeldStore
from scheduler.sources import SOURCES, Dormant, Growing, HeldRows, Nearby, NewPosts, Proposals, Source, Trending, UserChunk
from scheduler.sources.base import at_most

NOW = 1_700_000_000.0
HOUR_S, DAY_S = 3600.0, 86400.0
META = Meta(shards=2)
USERS = UserChunk(["ann", "bob", "cid"])


@pytest.fixture
def items() -> MemoryItemStore:
    """Posts of one to five hours' age about chess and jazz, by eve and by ann; one old, one over, one yet to come."""
    store = MemoryItemStore()
    store.put(
        [
            {"item_id": "chess1", "created_at": NOW - 1 * HOUR_S, "topics": ["chess"], "author_id": "eve"},
            {"item_id": "jazz2", "created_at": NOW - 2 * HOUR_S, "topics": ["jazz"], "author_id": "ann"},
            {"item_id": "both3", "created_at": NOW - 3 * HOUR_S, "topics": ["chess", "jazz"], "author_id": "eve"},
            {"item_id": "chess4", "created_at": NOW - 4 * HOUR_S, "topics": ["chess"], "author_id": "ann"},
            {"item_id": "plain5", "created_at": NOW - 5 * HOUR_S},
            {"item_id": "old", "created_at": NOW - 8 * DAY_S, "topics": ["chess", "jazz"]},
            {"item_id": "over", "created_at": NOW - HOUR_S, "expires_at": NOW + 1, "topics": ["chess", "jazz"]},
            {"item_id": "future", "created_at": NOW + 60, "topics": ["chess", "jazz"]},
        ]
    )
    return store


@pytest.fixture
def table(items: MemoryItemStore) -> ItemTable:
    made = ItemTable(items)
    made.sync(NOW)
    return made


@pytest.fixture
def follows() -> MemoryFollowStore:
    """Ann follows chess and eve, bob follows nothing, cid follows what nobody writes about."""
    made = MemoryFollowStore(META)
    made.put(["ann", "cid"], [Followed(("chess",), ("eve",)), Followed(("knitting",))])
    return made


def told(source: Source, table: ItemTable, now: float = NOW + 2, users: UserChunk = USERS) -> dict[str, list[str]]:
    """Return each user's proposed items in their order."""
    rows = source.propose(users, table, now)
    assert (np.diff(rows.user) >= 0).all()
    found: dict[str, list[str]] = {user: [] for user in users.user_ids}
    for user, item in zip(rows.user.tolist(), rows.item.tolist(), strict=True):
        found[users.user_ids[user]].append(table.items.ids[item])
    return found


def test_followed_topics_and_authors_give_their_new_posts_newest_first_and_each_once(table: ItemTable, follows: MemoryFollowStore) -> None:
    assert told(NewPosts(follows), table)["ann"] == ["chess1", "both3", "chess4"]


def test_whoever_follows_nothing_gets_everything_new_and_whoever_follows_the_silent_gets_nothing(
    table: ItemTable, follows: MemoryFollowStore
) -> None:
    found = told(NewPosts(follows), table)
    assert found["bob"] == ["chess1", "jazz2", "both3", "chess4", "plain5"]
    assert found["cid"] == []


def test_the_limit_keeps_the_newest(table: ItemTable, follows: MemoryFollowStore) -> None:
    found = told(NewPosts(follows, limit=2), table)
    assert found["ann"] == ["chess1", "both3"]
    assert found["bob"] == ["chess1", "jazz2"]


def test_new_posts_notice_what_changed_and_that_time_has_passed(
    table: ItemTable, items: MemoryItemStore, follows: MemoryFollowStore
) -> None:
    source = NewPosts(follows)
    assert "over" in told(source, table, NOW)["ann"]
    assert "over" not in told(source, table, NOW + 1)["ann"]
    assert "over" in told(source, table, NOW)["ann"]
    assert "future" not in told(source, table, NOW + 59)["ann"]
    assert "future" in told(source, table, NOW + 60)["ann"]
    assert "chess4" in told(source, table, NOW + 7 * DAY_S - 4 * HOUR_S - 1)["ann"]
    assert "chess4" not in told(source, table, NOW + 7 * DAY_S - 4 * HOUR_S)["ann"]
    items.put([{"item_id": "fresh", "created_at": NOW + 3, "topics": ["chess"]}])
    items.delete(["chess1"])
    table.sync(NOW + 4)
    assert told(source, table, NOW + 4)["ann"] == ["fresh", "both3", "chess4"]
    assert told(source, table, NOW + 61)["ann"][0] == "future"


def test_the_followed_and_the_idle_of_many_users_do_not_mix(table: ItemTable) -> None:
    follows, random = MemoryFollowStore(META), np.random.default_rng(0)
    names = [f"u{n}" for n in range(200)]
    picks = [tuple(random.choice(["chess", "jazz", "knitting"], random.integers(0, 3), replace=False).tolist()) for _ in names]
    follows.put(names, [Followed(topics) for topics in picks])
    posts = {"chess": {"chess1", "both3", "chess4"}, "jazz": {"jazz2", "both3"}, "knitting": set[str]()}
    everything = {"chess1", "jazz2", "both3", "chess4", "plain5"}
    found = told(NewPosts(follows), table, users=UserChunk(names))
    for name, topics in zip(names, picks, strict=True):
        assert set(found[name]) == (set[str]().union(*(posts[topic] for topic in topics)) if topics else everything)
        assert len(found[name]) == len(set(found[name]))


class Warmth:
    """Heat by item id, and how often it was asked for."""

    def __init__(self, **heat: float) -> None:
        self.heat, self.asked = heat, 0

    def __call__(self, item_ids: Sequence[str], now: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        self.asked += 1
        return np.array([self.heat.get(item_id, 0.0) for item_id in item_ids])


def test_trending_gives_everyone_the_hottest_live_items_and_none_that_are_cold(table: ItemTable) -> None:
    heat = Warmth(jazz2=3.0, chess4=5.0, over=9.0, future=9.0, old=4.0, plain5=1.0)
    found = told(Trending(heat, limit=3), table)
    assert list(found.values()) == [["chess4", "old", "jazz2"]] * len(USERS.user_ids)


def test_heat_is_asked_for_once_a_minute_unless_the_table_changes(table: ItemTable, items: MemoryItemStore) -> None:
    heat = Warmth(jazz2=1.0)
    source = Trending(heat)
    for later_s in (0.0, 30.0, 59.0):
        told(source, table, NOW + later_s)
    assert heat.asked == 1
    told(source, table, NOW + 60)
    assert heat.asked == 2
    items.delete(["jazz2"])
    table.sync(NOW + 61)
    assert told(source, table, NOW + 61)["ann"] == []
    assert heat.asked == 3


def test_an_item_that_expires_within_the_minute_is_not_trending_any_more(table: ItemTable) -> None:
    source = Trending(Warmth(over=9.0, jazz2=1.0))
    assert told(source, table, NOW)["ann"] == ["over", "jazz2"]
    assert told(source, table, NOW + 2)["ann"] == ["jazz2"]


def test_held_rows_are_offered_again_unless_they_or_their_items_are_gone(table: ItemTable, items: MemoryItemStore) -> None:
    def held(item_id: str, until: float = np.inf) -> dict[tuple[str, int], Held]:
        return {(item_id, 0): Held(item_id, 0, 0.5, until)}

    rows = held("jazz2") | held("chess1", NOW) | held("over") | held("deleted")
    store = MemoryHeldStore({"ann": rows, "cid": held("plain5", NOW + 10)})
    assert told(HeldRows(store), table) == {"ann": ["jazz2"], "bob": [], "cid": ["plain5"]}


def test_an_item_held_on_two_channels_is_proposed_once_per_row_of_the_table(table: ItemTable) -> None:
    store = MemoryHeldStore({"bob": {("jazz2", channel): Held("jazz2", channel, 0.5, np.inf) for channel in (0, 2)}})
    assert set(told(HeldRows(store), table)["bob"]) == {"jazz2"}


@pytest.mark.parametrize("users", [UserChunk([]), USERS])
def test_an_empty_table_proposes_nothing(users: UserChunk, follows: MemoryFollowStore) -> None:
    table = ItemTable(MemoryItemStore())
    table.sync(NOW)
    unseen, heat = (lambda asked, _: np.full(len(asked), 1e9)), Warmth()
    dormant = Dormant(heat, unseen, MemoryLedger())
    sources: list[Source] = [HeldRows(MemoryHeldStore()), Nearby(), NewPosts(follows), Growing(heat), Trending(heat), dormant]
    assert tuple(source.name for source in sources) == SOURCES
    for source in sources:
        assert len(source.propose(users, table, NOW).user) == 0
    assert len(Proposals.none().item) == 0


def test_at_most_keeps_the_first_rows_of_each_user() -> None:
    users = np.array([0, 0, 0, 2, 5, 5], np.int32)
    assert at_most(users, 2).tolist() == [True, True, False, True, True, True]
    assert at_most(users[:0], 2).tolist() == []
