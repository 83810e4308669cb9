"""The daily refresh: what users did since the tables were loaded shows in their features and windows, and an erased user is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lake.collected import Living
from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.history import History
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.profiles import NO_WINDOW, MemoryProfileStore, blank
from lake.user_keys import MemoryUserKeys, keyed
from ranking.blocks import USER_STATS
from ranking.store import MemoryFeatureStore
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores, load
from scheduler.refreshing import Refresh
from scheduler.send_time import fit
from scheduler.windows import SLOT_S

META = Meta(shards=4)
LOADED = pd.Timestamp("2026-03-02T00:00:00Z")
DAY = pd.Timedelta(days=1)
NOW = (LOADED + 8.5 * DAY).timestamp()


class Deployment:
    """A deployment in memory that was loaded from tables a week ago."""

    def __init__(self, folder: Path) -> None:
        at = [LOADED - (14 - n) * DAY + pd.Timedelta(hours=8) for n in range(14)] * 2
        events = pd.DataFrame({"user_id": ["ann"] * 14 + ["bob"] * 14, "item_id": [f"old-{n}" for n in range(14)] * 2, "at": at})
        items = pd.DataFrame({"item_id": [f"old-{n}" for n in range(14)], "created_at": at[:14], "topics": [["tea"]] * 14})
        began = Dataset.of({"events": events.assign(kind="view"), "items": items.assign(author_id="cho")})
        began.save(folder / "tables")
        self.items, self.profiles, self.user_keys = MemoryItemStore(), MemoryProfileStore(), MemoryUserKeys()
        self.stores = Stores(META, self.profiles, MemoryFollowStore(META), self.items, MemoryDueIndex(META.shards))
        self.history, self.features = History(str(folder / "history")), MemoryFeatureStore()
        load(began, self.stores, LOADED.timestamp(), fit(began.events, began.users, now=LOADED.timestamp()))
        living = Living(self.history, self.user_keys, self.profiles, self.items)
        self.refresh = Refresh(living, self.stores, self.features, str(folder / "tables"))

    def file(self, table: str, name: str, rows: pd.DataFrame) -> None:
        self.history.write(table, keyed(rows, self.user_keys), at="at", shard=0, name=name)

    def stat(self, user: str, name: str) -> float:
        return float(self.features.get([user], []).users.stats[0, USER_STATS.index(name)])


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def evenings(user: str, days: int, **columns: Any) -> pd.DataFrame:
    at = [LOADED + n * DAY + pd.Timedelta(hours=21, minutes=7) for n in range(days)]
    return pd.DataFrame({"user_id": user, "at": at, "kind": "view"}).assign(**columns)


def test_what_users_did_and_were_sent_since_the_tables_were_loaded_counts(deployment: Deployment) -> None:
    before = deployment.refresh.run(LOADED.timestamp())
    assert before is not None
    quiet = deployment.stat("ann", "engaged_3d")
    deployment.items.put([{"item_id": f"new-{n}", "created_at": (LOADED + n * DAY).timestamp(), "author_id": "dee"} for n in range(8)])
    deployment.file("events", "one", evenings("bob", 8))  # visits, in a file without items
    deployment.file("events", "two", evenings("ann", 8, item_id=[f"new-{n}" for n in range(8)], event_id=[f"e{n}" for n in range(8)]))
    sent = evenings("ann", 6, item_id="new-0", channel="in_app", propensity=1.0, disposition=["send"] * 4 + ["hold", "over_budget"])
    deployment.file("decisions", "three", sent.drop(columns=["kind"]))
    done = deployment.refresh.run(NOW)
    assert done is not None
    assert done.as_of == (LOADED + 8 * DAY).timestamp()
    assert deployment.stat("ann", "engaged_3d") > quiet
    assert [deployment.stat("ann", name) for name in ("sent_1d", "sent_7d", "sent_28d", "answered_28d")] == [0, 3, 4, 1]
    assert deployment.stat("bob", "sent_28d") == 0
    dataset = deployment.refresh.dataset(NOW)
    assert dataset is not None
    assert len(dataset.events) == 28 + 16
    assert dataset.items.set_index("item_id")["author_id"]["new-3"] == "dee"


def test_windows_follow_new_habits_and_whoever_is_due_stays_due(deployment: Deployment) -> None:
    was = deployment.profiles.get(["ann"])["windows"][0].tolist()
    deployment.file("events", "many", evenings("ann", 40, item_id="old-3"))
    month_later = (LOADED + 40.5 * DAY).timestamp()
    late = int(month_later // SLOT_S) - 3
    deployment.stores.due.enroll(["bob", "ann"], [late, late + 1000])
    deployment.refresh.run(month_later)
    now = deployment.profiles.get(["ann"])["windows"][0].tolist()
    assert {window // 4 % 24 for window in was if window != NO_WINDOW} == {8}
    assert 21 in {window // 4 % 24 for window in now if window != NO_WINDOW}
    assert deployment.stores.due.slots(["bob"]).tolist() == [late]
    assert late + 3 < deployment.stores.due.slots(["ann"])[0] < late + 3 + 96


def test_a_user_who_came_by_themselves_gets_windows_of_everybody_and_an_erased_one_nothing(deployment: Deployment) -> None:
    deployment.file("events", "one", evenings("bob", 3, item_id="old-1"))
    deployment.profiles.put(["eve"], blank(1))
    deployment.profiles.delete(["bob"])
    deployment.stores.due.remove(["bob"])
    deployment.user_keys.forget(["bob"])
    deployment.refresh.run(NOW)
    assert (deployment.profiles.get(["eve"])["windows"][0] != NO_WINDOW).any()
    assert deployment.stores.due.slots(["eve"])[0] > 0
    assert deployment.features.get(["ann", "bob"], []).known.tolist() == [True, False]
    dataset = deployment.refresh.dataset(NOW)
    assert dataset is not None
    assert dataset.users["user_id"].tolist() == ["ann", "eve"]
    assert set(dataset.events["user_id"]) == {"ann"}


def test_repeating_a_refresh_changes_nothing(deployment: Deployment) -> None:
    deployment.file("events", "one", evenings("ann", 8, item_id="old-2"))
    deployment.refresh.run(NOW)
    rows = {name: np.frombuffer(row, np.uint8).tolist() for name, row in deployment.profiles.rows.items()}
    stats = deployment.features.get(["ann", "bob"], []).users.stats.tolist()
    deployment.refresh.run(NOW + 60)
    assert {name: np.frombuffer(row, np.uint8).tolist() for name, row in deployment.profiles.rows.items()} == rows
    np.testing.assert_array_equal(deployment.features.get(["ann", "bob"], []).users.stats, np.array(stats, np.float32))


def test_before_anybody_did_anything_there_is_nothing_to_publish(tmp_path: Path) -> None:
    profiles, items = MemoryProfileStore(), MemoryItemStore()
    living = Living(History(str(tmp_path)), MemoryUserKeys(), profiles, items)
    stores = Stores(META, profiles, MemoryFollowStore(META), items, MemoryDueIndex(META.shards))
    assert Refresh(living, stores, MemoryFeatureStore()).run(NOW) is None


def test_a_refresh_leaves_a_time_of_ones_own_and_the_place_in_the_due_index(deployment: Deployment) -> None:
    deployment.profiles.write(["ann"], "digest_quarter", [74])
    deployment.profiles.write(["ann"], "digest_days", [0b1111111])
    deployment.stores.due.enroll(["ann"], [int(NOW // SLOT_S) + 1000])
    deployment.file("events", "many", evenings("ann", 8, item_id="old-3"))
    deployment.refresh.run(NOW)
    profile = deployment.profiles.get(["ann"])
    assert (profile["digest_quarter"][0], profile["digest_days"][0]) == (74, 0b1111111)
    evening = LOADED.normalize() + 8 * DAY + pd.Timedelta(hours=18, minutes=30)
    assert deployment.stores.due.slots(["ann"]).tolist() == [int(evening.timestamp() // SLOT_S)]
