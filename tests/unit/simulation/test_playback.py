"""Playback: nothing is visible before its time, everything is after it, and slots tick only where somebody is due."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from budgets.ledger import MemoryLedger
from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.ids import hash64
from lake.items import ItemTable, MemoryItemStore
from lake.meta import Meta
from lake.profiles import KNOWN, NO_WINDOW, MemoryProfileStore
from lake.seen import MemorySeenStore
from ranking.store import MemoryFeatureStore
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores
from scheduler.windows import SLOT_S
from simulation.playback import Engagements, Features, Playback, known_users, play, slots_between

START = pd.Timestamp("2024-03-04T00:00:00Z")
NOW = START.timestamp()
HOUR_S, DAY_S = 3600.0, 86400.0
META = Meta(shards=2)


def at(hours: float) -> pd.Timestamp:
    return START + pd.Timedelta(hours=hours)


@pytest.fixture(scope="module")
def history() -> Dataset:
    """Ann and bob were about before the start; cid comes five hours after it, dee is said to have been created after ten."""
    return Dataset.of(
        {
            "users": pd.DataFrame(
                {"user_id": ["ann", "bob", "cid", "dee"], "created_at": [None, at(-100), None, at(10)], "timezone": ["UTC"] * 4}
            ),
            "items": pd.DataFrame(
                {
                    "item_id": ["ancient", "old", "new", "tomorrow"],
                    "created_at": [at(-500), at(-10), at(3), at(30)],
                    "topics": [["a"], ["a"], ["b"], ["b"]],
                }
            ),
            "events": pd.DataFrame(
                {
                    "user_id": ["ann", "ann", "cid", "ann"],
                    "item_id": ["ancient", "old", "new", "new"],
                    "kind": ["like", "like", "like", "unsubscribe"],
                    "at": [at(-400), at(-5), at(5), at(6)],
                }
            ),
        }
    )


@pytest.fixture
def playback(history: Dataset) -> Playback:
    stores = Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))
    features = Features.of(history, MemoryFeatureStore())
    made = Playback(history, stores, MemorySeenStore(), MemoryLedger(), features, NOW, windows_per_week=3)
    made.start()
    return made


def items_of(playback: Playback, now: float) -> set[str]:
    table = ItemTable(playback.stores.items)
    table.sync(now)
    return set(table.items.ids.tolist())


def loaded(playback: Playback) -> set[str]:
    users = ["ann", "bob", "cid", "dee"]
    known = playback.stores.profiles.get(users)["flags"] & KNOWN
    return {user for user, there in zip(users, known, strict=True) if there}


def seen(playback: Playback, user: str) -> set[int]:
    return set(playback.seen.of([user]).keys.tolist())


def test_at_the_start_only_what_came_before_is_there(playback: Playback) -> None:
    assert items_of(playback, NOW) == {"old"}
    assert loaded(playback) == {"ann", "bob"}
    assert seen(playback, "ann") == set(hash64(["old"]).tolist())
    assert (playback.stores.profiles.get(["ann"])["windows"] != NO_WINDOW).sum() == 3
    assert (playback.stores.due.slots(["ann", "bob"]) * SLOT_S >= NOW).all()


def test_items_appear_at_their_time_and_not_before(playback: Playback) -> None:
    playback.advance(NOW + 3 * HOUR_S)
    assert items_of(playback, NOW + 3 * HOUR_S) == {"old"}
    playback.advance(NOW + 3 * HOUR_S + 1)
    assert items_of(playback, NOW + 3 * HOUR_S + 1) == {"old", "new"}


def test_events_are_seen_and_counted_when_they_happen(playback: Playback) -> None:
    playback.advance(NOW + 5 * HOUR_S)
    assert seen(playback, "cid") == set()
    playback.advance(NOW + 5 * HOUR_S + 1)
    assert seen(playback, "cid") == set(hash64(["new"]).tolist())


def test_people_join_at_the_midnight_after_they_came(playback: Playback) -> None:
    playback.advance(NOW + 23 * HOUR_S)
    assert loaded(playback) == {"ann", "bob"}
    playback.advance(NOW + DAY_S)
    assert loaded(playback) == {"ann", "bob", "cid", "dee"}


def test_advancing_step_by_step_or_at_once_ends_the_same(playback: Playback, history: Dataset) -> None:
    stores = Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))
    other = Playback(
        history, stores, MemorySeenStore(), MemoryLedger(), Features.of(history, MemoryFeatureStore()), NOW, windows_per_week=3
    )
    other.start()
    playback.advance(NOW + 2 * DAY_S)
    for step in range(1, 49):
        other.advance(NOW + step * HOUR_S)
    assert items_of(playback, NOW + 2 * DAY_S) == items_of(other, NOW + 2 * DAY_S)
    for user in ("ann", "bob", "cid", "dee"):
        assert seen(playback, user) == seen(other, user)
        assert playback.stores.due.slots([user]).tolist() == other.stores.due.slots([user]).tolist()
        assert playback.stores.profiles.get([user]).tobytes() == other.stores.profiles.get([user]).tobytes()


def test_time_does_not_run_backwards(playback: Playback) -> None:
    playback.advance(NOW + 4 * HOUR_S)
    playback.advance(NOW + HOUR_S)
    assert playback.at == NOW + 4 * HOUR_S


def test_engagements_are_in_the_order_of_time_and_know_which_count(history: Dataset) -> None:
    events = Engagements.of(history)
    assert (np.diff(events.at) >= 0).all()
    assert len(events) == 4
    assert events.item[events.counts].tolist() == ["ancient", "old", "new"]
    between = events.between(at(-5).timestamp(), at(5).timestamp())
    assert between.item.tolist() == ["old"]


def test_known_users_were_created_or_active_before(history: Dataset) -> None:
    for hours, expected in ((-200, {"ann"}), (1, {"ann", "bob"}), (11, {"ann", "bob", "cid", "dee"})):
        known = Dataset.of_checked(history.tables, at(hours))
        assert set(known_users(known, at(hours).timestamp())["user_id"]) == expected


@pytest.mark.parametrize(("since", "until", "slots"), [(0.0, 2700.0, [0, 1, 2]), (1.0, 2701.0, [1, 2, 3]), (900.0, 900.0, [])])
def test_a_slot_belongs_to_the_time_in_which_its_tick_is(since: float, until: float, slots: list[int]) -> None:
    assert list(slots_between(since, until)) == slots


def test_playing_ticks_where_somebody_is_due_after_everything_before_has_happened(playback: Playback) -> None:
    due_at = {int(NOW // SLOT_S) + 12: 1, int(NOW // SLOT_S) + 40: 2}
    ticked: list[tuple[int, float, float]] = []
    told: list[float] = []
    play(
        playback,
        NOW + 12 * HOUR_S,
        lambda slot: due_at.get(slot, 0),
        lambda slot, now: ticked.append((slot, now, playback.at)),
        told.append,
    )
    assert ticked == [(slot, slot * SLOT_S, slot * SLOT_S) for slot in due_at]
    assert told == [slot * SLOT_S for slot in slots_between(NOW, NOW + 12 * HOUR_S)]
    assert playback.at == NOW + 12 * HOUR_S
