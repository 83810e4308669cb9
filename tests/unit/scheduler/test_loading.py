"""Loading: what tables say of users, items and follows is what the stores hold, and loading again changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.follows import Followed, MemoryFollowStore
from lake.items import MAX_AGE_S, MemoryItemStore
from lake.meta import Meta
from lake.profiles import DEFAULT_BUDGET, KNOWN, MAX_WINDOWS, NO_OFFSET, NO_WINDOW, MemoryProfileStore
from scheduler.due import MemoryDueIndex
from scheduler.loading import DERIVED_FOLLOWS_MOST, Stores, derived_follows, enroll, load
from scheduler.send_time import SendTimes, fit
from scheduler.windows import next_slots_of, windows_due_of

NOW = pd.Timestamp("2024-03-04T10:07:00Z")
AT = NOW.timestamp()
META = Meta(shards=4, channels=("in_app", "email"))


Columns = Mapping[str, Any]
"""A table as its columns."""


def ago(hours: float) -> pd.Timestamp:
    return NOW - pd.Timedelta(hours=hours)


def tables(**more: Columns) -> Dataset:
    """Return a history of three users and three items, with further or replaced tables."""
    plain: dict[str, Columns] = {
        "users": {
            "user_id": ["ann", "bob", "cid"],
            "timezone": ["Europe/Berlin", None, None],
            "utc_offset_minutes": pd.array([None, -180, None], "Int64"),
            "created_at": [ago(5000), None, None],
        },
        "items": {
            "item_id": ["new", "old", "other"],
            "created_at": [ago(1), NOW - pd.Timedelta(seconds=MAX_AGE_S + 1), ago(2)],
            "topics": [["chess", "jazz"], ["chess"], ["film"]],
        },
        "events": {
            "user_id": ["ann", "ann", "ann", "bob"],
            "item_id": ["new", "old", "other", "other"],
            "kind": ["view", "like", "view", "view"],
            "at": [ago(0.5), ago(300), ago(1.5), ago(1)],
        },
    }
    return Dataset.of({name: pd.DataFrame(columns) for name, columns in (plain | more).items()})


@pytest.fixture
def stores() -> Stores:
    return Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))


def times_of(dataset: Dataset) -> SendTimes:
    return fit(dataset.events, dataset.users, now=AT)


def loaded(stores: Stores, dataset: Dataset, **options: Any) -> int:
    return load(dataset, stores, AT, times_of(dataset), **options)


def profile(stores: Stores, user: str, name: str) -> Any:
    return stores.profiles.get([user])[name][0]


def test_users_bring_their_zone_offset_and_age(stores: Stores) -> None:
    assert loaded(stores, tables()) == 3
    assert (stores.profiles.get(["ann", "bob", "cid"])["flags"] & KNOWN).all()
    assert [bytes(profile(stores, user, "zone")) for user in ("ann", "bob")] == [b"Europe/Berlin", b""]
    assert [int(profile(stores, user, "utc_offset_minutes")) for user in ("ann", "bob", "cid")] == [NO_OFFSET, -180, NO_OFFSET]
    assert [float(profile(stores, user, "created_at")) for user in ("ann", "cid")] == [ago(5000).timestamp(), 0.0]


def test_everybody_waits_in_the_slot_of_their_next_window(stores: Stores) -> None:
    loaded(stores, tables(), windows_per_week=3)
    users = ["ann", "bob", "cid"]
    profiles = stores.profiles.get(users)
    assert ((profiles["windows"] != NO_WINDOW).sum(axis=1) == 3).all()
    assert ((profiles["window_share"] > 0) == (profiles["windows"] != NO_WINDOW)).all()
    assert (profiles["window_share"].max(axis=1) == 255).all()
    slots = stores.due.slots(users)
    assert (slots == next_slots_of(profiles, AT)[0]).all()
    assert (slots * 900 > AT).all()
    for slot, row in zip(slots.tolist(), np.split(profiles, len(users)), strict=True):
        assert windows_due_of(row, slot)[0] >= 0


def test_live_items_are_put_and_old_ones_are_not(stores: Stores) -> None:
    loaded(stores, tables())
    new, old = stores.items.get(["new", "old"])
    assert new is not None
    assert (new["created_at"], new["topics"]) == (ago(1).timestamp(), ["chess", "jazz"])
    assert old is None


def test_items_can_be_left_for_later(stores: Stores) -> None:
    loaded(stores, tables(), items=False)
    assert stores.items.get(["new"]) == [None]


def test_budgets_preferences_and_addresses_reach_the_profile_and_strangers_rows_are_ignored(stores: Stores) -> None:
    dataset = tables(
        budgets={"user_id": ["ann", "zoe"], "channel": ["email", "email"], "weekly": [1, 9]},
        preferences={
            "user_id": ["bob", "cid"],
            "channel": ["email", None],
            "allowed": [False, True],
            "quiet_from": [None, "22:00"],
            "quiet_to": [None, "07:30"],
        },
        addresses={"user_id": ["ann", "zoe"], "channel": ["email", "email"], "address": ["ann@example.org", "zoe@example.org"]},
    )
    loaded(stores, dataset, only=["ann", "bob", "cid"])
    assert profile(stores, "ann", "budget").tolist()[:2] == [DEFAULT_BUDGET, 1]
    assert int(profile(stores, "bob", "not_allowed")) == 0b10
    assert (int(profile(stores, "cid", "quiet_from")), int(profile(stores, "cid", "quiet_to"))) == (22 * 60, 7 * 60 + 30)
    assert int(profile(stores, "ann", "addressed")) == 0b10
    assert stores.profiles.addresses(["ann", "bob"]) == [{"email": "ann@example.org"}, {}]
    assert stores.profiles.preferences(["bob"])[0][0]["channel"] == "email"
    assert not stores.profiles.get(["zoe"])["flags"][0] & KNOWN


def test_only_the_named_users_are_loaded(stores: Stores) -> None:
    assert loaded(stores, tables(), only=["bob", "nobody"]) == 1
    assert stores.due.slots(["ann", "bob"]).tolist()[0] == -1
    assert not stores.profiles.get(["ann"])["flags"][0] & KNOWN


def test_given_follows_count_and_past_engagement_does_not(stores: Stores) -> None:
    follows: Columns = {"user_id": ["ann", "ann", "bob"], "topic": ["film", None, "jazz"], "author_id": [None, "eve", None]}
    loaded(stores, tables(follows=follows))
    assert stores.follows.get(["ann", "bob", "cid"]) == [Followed(("film",), ("eve",)), Followed(("jazz",)), Followed()]


def test_without_follows_the_topics_engaged_with_at_least_twice_are_followed(stores: Stores) -> None:
    loaded(stores, tables())
    assert stores.follows.get(["ann", "bob"]) == [Followed(("chess",)), Followed()]


def test_derived_follows_know_nothing_of_the_future_or_of_long_ago() -> None:
    events = {"user_id": ["ann"] * 4, "item_id": ["new", "old", "new", "other"], "kind": ["view"] * 4}
    late = tables(events=events | {"at": [ago(-1), ago(-2), ago(0), ago(1)]})
    assert derived_follows(late, AT).empty
    early = tables(events=events | {"at": [ago(91 * 24), ago(100 * 24), ago(92 * 24), ago(93 * 24)]})
    assert derived_follows(early, AT).empty


def test_derived_follows_are_the_most_engaged_topics() -> None:
    names = [f"t{n}" for n in range(DERIVED_FOLLOWS_MOST + 5)]
    items: Columns = {"item_id": names, "created_at": [ago(50)] * len(names), "topics": [[name] for name in names]}
    views = [name for n, name in enumerate(names) for _ in range(n + 1)]
    events = {"user_id": ["ann"] * len(views), "item_id": views, "kind": ["view"] * len(views), "at": [ago(1)] * len(views)}
    assert set(derived_follows(tables(items=items, events=events), AT)["topic"]) == set(names[5:])


def test_loading_again_changes_nothing_and_takes_in_what_is_new(stores: Stores) -> None:
    dataset = tables()
    loaded(stores, dataset)
    before = (stores.profiles.get(["ann", "bob"]).tobytes(), stores.due.slots(["ann", "bob"]).tolist())
    loaded(stores, dataset)
    assert (stores.profiles.get(["ann", "bob"]).tobytes(), stores.due.slots(["ann", "bob"]).tolist()) == before
    moved = replace(dataset, users=dataset.users.assign(timezone="Asia/Tokyo"))
    loaded(stores, moved)
    assert bytes(profile(stores, "ann", "zone")) == b"Asia/Tokyo"


def test_users_without_windows_leave_the_due_index(stores: Stores) -> None:
    loaded(stores, tables())
    nothing: npt.NDArray[np.uint16] = np.full((1, MAX_WINDOWS), NO_WINDOW, np.uint16)
    stores.profiles.write(["ann"], "windows", nothing)
    enroll(["ann", "bob"], stores, AT)
    slots = stores.due.slots(["ann", "bob"]).tolist()
    assert slots[0] == -1
    assert slots[1] > 0
