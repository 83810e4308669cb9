"""What every implementation of the lake's protocols does, on the memory one and on the real store."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from redis import Redis

from lake.actors import Actors, Asked
from lake.follows import Followed, FollowStore, MemoryFollowStore, followers_of, unfollow
from lake.ids import author_key, shard_of, topic_key
from lake.items import MAX_AGE_S, ItemStore, ItemTable, MemoryItemStore
from lake.keys import Keys
from lake.meta import Meta
from lake.profiles import EVERYBODY, KNOWN, MAX_WINDOWS, NO_WINDOW, PROFILE, WEEK, MemoryProfileStore, ProfileStore, blank
from lake.redis_follows import RedisFollowStore
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_seen import RedisSeenStore
from lake.redis_user_keys import RedisUserKeys
from lake.seen import MOST, MemorySeenStore, SeenStore
from lake.user_keys import MemoryUserKeys, UserKeys
from tests.integration.waiting import until

META = Meta(shards=4)
NOW = 1_700_000_000.0


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, redis_client: Redis) -> Callable[[str], Any]:
    """Return a maker of stores of one implementation."""
    kinds: dict[str, dict[str, Callable[[], Any]]] = {
        "memory": {
            "items": MemoryItemStore,
            "profiles": MemoryProfileStore,
            "follows": lambda: MemoryFollowStore(META),
            "user_keys": MemoryUserKeys,
            "seen": MemorySeenStore,
        },
        "redis": {
            "items": lambda: RedisItemStore(redis_client, META.keys),
            "profiles": lambda: RedisProfileStore(redis_client, META.keys),
            "follows": lambda: RedisFollowStore(redis_client, META.keys),
            "user_keys": lambda: RedisUserKeys(redis_client, META.keys),
            "seen": lambda: RedisSeenStore(redis_client, META.keys),
        },
    }
    return lambda what: kinds[request.param][what]()


def item(item_id: str, age_s: float = 0.0, **more: object) -> dict[str, object]:
    """Return a plain items row."""
    return {"item_id": item_id, "created_at": NOW - age_s, **more}


def test_items_come_back_as_they_were_put(make: Callable[[str], ItemStore]) -> None:
    """Rows survive the round trip; unknown ids give None."""
    store = make("items")
    row = item("a", topics=["x", "y"], title="Ünïcode", expires_at=NOW + 5)
    store.put([row])
    assert store.get(["a", "nobody"]) == [row, None]
    assert store.get([]) == []
    assert store.there([]) == []
    assert store.there(["a", "nobody"]) == [True, False]


def test_an_entity_knows_who_acted_on_it_up_to_each_version(make: Callable[[str], ItemStore]) -> None:
    """Each author counts once, from their first version on; the latest are named; who is told is not; what is deleted is forgotten."""
    store = make("items")
    names = ["ann", "bob", "cid", "dee", "eve", "bob"]
    store.put([item(f"room-{n}", entity_id="room", version=n, author_id=name) for n, name in enumerate(names)])
    store.put([item("post", author_id="ann"), item("nobody's", entity_id="room", version=9)])
    assert store.actors([]) == []
    assert store.actors([Asked("room", 9), Asked("room", 1), Asked("room", 9, "eve"), Asked("room", 2, "eve"), Asked("post", 0)]) == [
        Actors(("eve", "dee", "cid"), 5),
        Actors(("bob", "ann"), 2),
        Actors(("dee", "cid", "bob"), 4),
        Actors(("cid", "bob", "ann"), 3),
        Actors(),
    ]
    store.delete(["room-4", "room-5"])
    assert store.actors([Asked("room", 9)]) == [Actors(("dee", "cid", "bob"), 4)]


def test_weeks_are_kept_by_user_and_go_with_them(make: Callable[[str], ProfileStore]) -> None:
    """Users without a week have one of zeros; everybody's is kept like a user's."""
    store = make("profiles")
    rows = np.zeros(2, WEEK)
    rows["scores"][:, 5], rows["rests_on"], rows["as_of"] = 255, [2, 0], NOW
    store.put_weeks(["ann", EVERYBODY], rows)
    assert (store.weeks([EVERYBODY, "ann"]) == rows[::-1]).all()
    store.delete(["ann"])
    assert not store.weeks(["ann"])["scores"].any()
    assert store.everybody() == []
    assert len(store.weeks([])) == 0


def test_an_item_table_follows_changes_and_drops_what_is_old(make: Callable[[str], ItemStore]) -> None:
    """New, changed, deleted, expired and old items show in the next sync."""
    store = make("items")
    table = ItemTable(store)
    store.put([item("old", MAX_AGE_S + 1), item("new"), item("short", expires_at=NOW + 10), item("gone")])
    store.delete(["gone"])
    table.sync(NOW)
    assert sorted(table.items.ids) == ["new", "short"]
    store.put([item("new", author_id="ann"), item("newer")])
    table.sync(NOW + 20)
    assert sorted(table.items.ids) == ["new", "newer"]
    assert table.items.author[table.snapshot().index["new"]] != 0


def test_a_change_is_seen_though_the_store_went_away_in_the_middle_of_a_sync(
    make: Callable[[str], ItemStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make("items")
    table = ItemTable(store)
    store.put([item("taken back")])
    table.sync(NOW)
    store.delete(["taken back"])
    store.put([item("new")])

    def away(*_: object) -> list[None]:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "get", away)
        with pytest.raises(ConnectionError):
            table.sync(NOW + 1)
    table.sync(NOW + 2)
    assert table.items.ids.tolist() == ["new"]


def test_a_snapshot_stays_as_it_was_while_its_table_grows(make: Callable[[str], ItemStore]) -> None:
    """New rows go behind the old ones, for which no old row moves and no earlier snapshot changes."""
    store = make("items")
    table = ItemTable(store)
    table.sync(NOW)
    for number in range(20):
        store.put([item(f"post-{number:02}", topics=[f"topic-{number}"], expires_at=NOW + 100 + number)])
        before = table.snapshot()
        table.sync(NOW + 1)
        assert before.items.ids.tolist() == [f"post-{n:02}" for n in range(number)]
        assert before.codes([f"post-{number:02}"]).tolist() == [-1]
        assert table.codes([f"post-{number:02}", "post-00"]).tolist() == [number, 0]
    assert table.items.expires_at.tolist() == [NOW + 100 + number for number in range(20)]
    assert len(np.unique(table.items.topics[:, 0])) == 20


def test_an_item_put_again_as_it_was_is_no_change(make: Callable[[str], ItemStore]) -> None:
    """Only what an item says anew counts, and what is put beside it."""
    store = make("items")
    table = ItemTable(store)
    store.put([item("room", author_id="ann", topics=["x"])])
    table.sync(NOW)
    generation = table.generation
    store.put([item("room", author_id="ann", topics=["x"])])
    table.sync(NOW + 1)
    assert table.generation == generation
    store.put([item("room", author_id="ann", topics=["x"]), item("post")])
    table.sync(NOW + 2)
    assert table.items.ids.tolist() == ["room", "post"]
    store.put([item("room", author_id="bob", topics=["x"])])
    table.sync(NOW + 3)
    assert sorted(table.items.ids) == ["post", "room"]
    assert table.items.author[table.codes(["room"])[0]] == author_key(["bob"])[0]
    store.put([item("room", 2 * MAX_AGE_S, author_id="bob", topics=["x"])])
    table.sync(NOW + 4)
    assert table.items.ids.tolist() == ["post"]


def test_an_item_the_table_lacks_is_fetched(make: Callable[[str], ItemStore]) -> None:
    """A brand-new item is found before the next sync; an unknown one is -1."""
    store = make("items")
    table = ItemTable(store)
    table.sync(NOW)
    store.put([item("brand-new", kind="post")])
    items, rows = table.with_missing(["brand-new", "nothing"])
    assert items.ids[rows[0]] == "brand-new"
    assert rows[1] == -1


def test_an_item_that_is_lent_is_read_by_its_id_and_is_in_no_table(make: Callable[[str], ItemStore]) -> None:
    store = make("items")
    store.lend([item("i")], 60.0)
    table = ItemTable(store)
    table.sync(NOW)
    assert len(table.items) == 0
    assert table.with_missing(["i"])[0].ids.tolist() == ["i"]
    store.put([item("i", title="for good")])
    assert store.get(["i"]) == [item("i", title="for good")]


def test_what_is_lent_to_the_store_is_gone_after_a_while_and_what_is_put_stays(redis_client: Redis) -> None:
    store = RedisItemStore(redis_client, META.keys)
    store.lend([item("lent"), item("put")], 0.05)
    store.put([item("put")])
    until(lambda: store.get(["lent"]) == [None], timeout_s=5.0)
    assert store.get(["put"]) == [item("put")]


def test_the_store_keeps_items_for_as_long_as_its_history_speaks_of_them(redis_client: Redis) -> None:
    store, day_s = RedisItemStore(redis_client, META.keys), 86400
    store.put([item("a"), item("b", expires_at=NOW + 30 * day_s), item("c", expires_at=math.inf)])
    kept = [redis_client.ttl(META.keys.of_user(Keys.ITEM, name)) for name in "abc"]
    assert kept == pytest.approx([90 * day_s, 120 * day_s, 90 * day_s], abs=5)


def test_profiles_keep_fields_apart(make: Callable[[str], ProfileStore]) -> None:
    """Writing one field, or setting bits, leaves the others; unknown users lack KNOWN and are not created by a write."""
    store = make("profiles")
    rows = blank(2)
    rows["zone"] = [b"Asia/Kathmandu", b""]
    rows["budget"][:, 0] = 7
    store.put(["u", "v"], rows)
    store.write(["u", "stranger"], "quiet_from", [60, 60])
    store.add_bits(["u", "v", "stranger"], "suppressed", [0b1001, 0b1, 0b1], True)
    store.add_bits(["u", "v", "stranger"], "suppressed", [0b1000, 0, 0], False)
    got = store.get(["u", "v", "stranger"])
    assert got["quiet_from"].tolist() == [60, -1, 0]
    assert got["suppressed"].tolist() == [1, 1, 0]
    assert got["zone"].tolist() == [b"Asia/Kathmandu", b"", b""]
    assert got["budget"][0, 0] == 7
    assert (got["flags"] & KNOWN).tolist() == [1, 1, 0]


def test_a_text_of_a_profile_is_replaced_whole(make: Callable[[str], ProfileStore]) -> None:
    store = make("profiles")
    store.put(["ann"], blank(1))
    for zone in (b"America/New_York", b"Asia/Tokyo", b""):
        store.write(["ann"], "zone", np.array([zone], "S32"))
        assert store.get(["ann"])["zone"].tolist() == [zone]


def test_a_time_of_the_users_own_is_kept_beside_the_windows_predicted_for_them(make: Callable[[str], ProfileStore]) -> None:
    """Writing windows leaves the user's own time, and writing that leaves the windows; a row of before there were such times takes one."""
    store = make("profiles")
    old = np.frombuffer(blank(1).tobytes()[:-2].ljust(PROFILE.itemsize, b"\0"), PROFILE)
    store.put(["u", "old"], np.concatenate([blank(1), old]))
    store.write(["u", "old"], "digest_quarter", [74, 95])
    store.write(["u", "old"], "digest_days", [0b1111111, 0b0000101])
    windows = np.full((2, MAX_WINDOWS), NO_WINDOW, np.uint16)
    windows[:, 0] = 32
    store.write(["u", "old"], "windows", windows)
    got = store.get(["u", "old"])
    assert (got["digest_quarter"].tolist(), got["digest_days"].tolist()) == ([74, 95], [127, 5])
    assert got["windows"][:, 0].tolist() == [32, 32]


def test_preferences_come_back_as_they_were_put(make: Callable[[str], ProfileStore]) -> None:
    """Rows survive the round trip, a time of the user's own and its days with them."""
    store = make("profiles")
    rows = [{"kind": "post", "channel": "email", "allowed": False}, {"allowed": True, "digest_at": "18:30", "digest_days": ["mon", "sun"]}]
    store.put_preferences("u", rows)
    assert store.preferences(["u", "nobody"]) == [rows, []]


def test_somebody_new_begins_as_was_put_last_and_everybody_is_told(make: Callable[[str], ProfileStore]) -> None:
    """Without anything put it is a blank profile; everybody are those with a profile."""
    store = make("profiles")
    assert store.usual().tobytes() == blank(1).tobytes()
    row = blank(1)
    row["windows"][0, :2] = 32, 84
    store.put_usual(row)
    assert store.usual().tobytes() == row.tobytes()
    assert store.everybody() == []
    users = ["ann", "bob:p:x", "ü{3}"]
    store.put(users, blank(3))
    store.delete(["ann"])
    assert sorted(store.everybody()) == users[1:]


def test_forgetting_a_profile_forgets_addresses_and_preferences(make: Callable[[str], ProfileStore]) -> None:
    """Nothing of a deleted user is left."""
    store = make("profiles")
    store.put(["u"], blank(1))
    store.put_addresses("u", {"email": "u@example.com"})
    store.put_preferences("u", [{"kind": "post", "allowed": False}])
    assert store.addresses(["u", "v"]) == [{"email": "u@example.com"}, {}]
    assert store.preferences(["u", "v"]) == [[{"kind": "post", "allowed": False}], []]
    store.delete(["u"])
    assert store.get(["u"])["flags"].tolist() == [0]
    assert store.addresses(["u"]) == [{}]
    assert store.preferences(["u"]) == [[]]


def test_follows_are_found_from_both_sides(make: Callable[[str], FollowStore]) -> None:
    """Replacing what a user follows takes the old followings away."""
    store = make("follows")
    store.put(["u", "v"], [Followed(("net", "mm"), ("ann",)), Followed()])
    store.put(["u"], [Followed(("mm", "fs"), ())])
    assert store.get(["u", "v", "w"]) == [Followed(("mm", "fs"), ()), Followed(), Followed()]
    follows = store.keys_of(["v", "u"])
    assert follows.keys.tolist() == topic_key(["mm", "fs"]).tolist()
    assert follows.starts.tolist() == [0, 0, 2]
    assert follows.user.tolist() == [1, 1]
    shard = shard_of("u", META.shards)
    net, mm = topic_key(["net", "mm"]).tolist()
    assert [user for page in store.followers(shard, mm) for user in page] == ["u"]
    assert [user for page in store.followers(shard, net) for user in page] == []


def test_user_keys_last_until_they_are_forgotten(make: Callable[[str], UserKeys]) -> None:
    """A key is drawn once; after forgetting, a new one is unlinkable to the old."""
    keys = make("user_keys")
    first, second = keys.of(["u", "v"])
    assert first != second
    assert keys.of(["u"]) == [first]
    keys.forget(["u"])
    assert keys.known(["u", "v"]) == [None, second]
    assert keys.of(["u"]) != [first]


def test_what_was_seen_is_remembered_up_to_a_number(make: Callable[[str], SeenStore]) -> None:
    """The latest entities are kept, per user; forgetting leaves none."""
    seen = make("seen")
    for start in range(0, 3 * MOST, MOST // 2):
        seen.add(["u"] * (MOST // 2), np.arange(start, start + MOST // 2, dtype=np.uint64))
    seen.add(["v"], np.array([7], np.uint64))
    lists = seen.of(["v", "nobody", "u"])
    assert lists.starts.tolist() == [0, 1, 1, 1 + MOST]
    assert lists.keys[1:].tolist() == list(range(2 * MOST, 3 * MOST))
    seen.delete(["u"])
    assert seen.of(["u"]).keys.tolist() == []


def test_items_read_alike_from_a_frame_and_from_rows() -> None:
    """A table row and a plain row give the same columns."""
    from lake.items import Items, rows_of_frame

    frame = pd.DataFrame(
        {
            "item_id": ["a", "b"],
            "created_at": pd.to_datetime([NOW, NOW + 1], unit="s", utc=True),
            "topics": [["x"], None],
            "author_id": ["ann", None],
            "expires_at": pd.to_datetime(np.array([np.nan, NOW + 9]), unit="s", utc=True),
        }
    )
    items = Items.from_frame(frame)
    assert items.created_at.tolist() == [NOW, NOW + 1]
    assert items.expires_at.tolist() == [np.inf, NOW + 9]
    assert items.author[1] == 0
    assert np.array_equal(items.topics, Items.from_rows(rows_of_frame(frame)).topics)


def test_a_user_who_is_followed_can_be_taken_out_of_what_everybody_follows(make: Callable[[str], FollowStore]) -> None:
    store = make("follows")
    users = [f"u{n}" for n in range(20)]
    store.put(users, [Followed(("tea",), ("gone", "stays"))] * 20)
    store.put(["other"], [Followed((), ("stays",))])
    assert followers_of(store, META.shards, "gone") == set(users)
    assert unfollow(store, META.shards, "gone") == 20
    assert unfollow(store, META.shards, "gone") == 0
    assert store.get(["u7", "other"]) == [Followed(("tea",), ("stays",)), Followed((), ("stays",))]
    assert followers_of(store, META.shards, "stays") == {*users, "other"}
