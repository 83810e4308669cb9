"""What every feature store promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from redis import Redis

from lake.ids import author_key
from lake.meta import Meta
from lake.terms import BUCKETS
from ranking.blocks import AUTHOR_AFFINITY, DIMENSIONS, TEXT_DIMENSIONS, TOPIC_AFFINITY, Lists, UserBlock, even_week
from ranking.redis_features import RedisFeatureStore
from ranking.rows import AUTHOR, ITEM, TOPIC, blank_stats
from ranking.store import FeatureStore, MemoryFeatureStore

AT = 1_700_000_000.0
EPOCH = 1_699_833_600.0


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
    if request.param == "memory":
        yield MemoryFeatureStore()
    else:
        client: Redis = request.getfixturevalue("redis_client")
        yield RedisFeatureStore(client, Meta().keys)


def block(users: int) -> UserBlock:
    vector = np.arange(users * DIMENSIONS, dtype=np.float32).reshape(users, DIMENSIONS)
    text = np.zeros((users, TEXT_DIMENSIONS), np.float32)
    authors, topics = Lists.empty(users, len(AUTHOR_AFFINITY)), Lists.empty(users, len(TOPIC_AFFINITY))
    return UserBlock(np.full(users, AT), blank_stats(users), vector, text, authors, topics)


def test_nobody_and_nothing_are_blank_rows(store: FeatureStore) -> None:
    fetched = store.get(["nobody"], ["nothing"])
    assert fetched.known.tolist() == [False]
    assert np.array_equal(fetched.users.stats, blank_stats(1), equal_nan=True)
    assert fetched.items["counts"][0, :-1].tolist() == [0.0] * 5
    assert np.isnan(fetched.items["counts"][0, -1])
    assert np.isnan(fetched.refreshed_at)


def test_users_come_back_in_the_order_asked_for(store: FeatureStore) -> None:
    store.put_users(["a", "b", "c"], block(3), EPOCH)
    store.mark_refreshed(AT, even_week())
    fetched = store.get(["c", "x", "a"], [])
    assert fetched.known.tolist() == [True, False, True]
    assert np.array_equal(fetched.users.vector[[0, 2]], block(3).vector[[2, 0]])
    assert fetched.refreshed_at == AT
    assert np.array_equal(fetched.week, even_week())


def test_words_are_those_put_last_or_none(store: FeatureStore) -> None:
    assert store.words() is None
    words = np.random.default_rng(0).normal(size=(BUCKETS, TEXT_DIMENSIONS)).astype(np.float32)
    store.put_words(words)
    found = store.words()
    assert found is not None
    assert np.array_equal(found, words)
    store.put_words(None)
    assert store.words() is None


def test_forgotten_users_are_unknown(store: FeatureStore) -> None:
    store.put_users(["a", "b"], block(2), EPOCH)
    store.delete_users(["a"])
    store.delete_users([])
    assert store.get(["a", "b"], []).known.tolist() == [False, True]


def test_authors_and_topics_come_back(store: FeatureStore) -> None:
    keys = author_key(["ann", "bob"])
    authors, topics = np.zeros(2, AUTHOR), np.zeros(2, TOPIC)
    authors["stats"], topics["stats"] = 3, 4
    store.put_authors(keys, authors)
    store.put_topics(keys, topics)
    asked = author_key(["bob", "eve"])
    assert store.get_authors(asked)["stats"][:, 0].tolist() == [3, 0]
    assert np.isnan(store.get_authors(asked)["stats"][1, -1])
    assert store.get_topics(asked)["stats"][:, 0].tolist() == [4, 0]
    assert len(store.get_topics(asked[:0])) == 0


def test_each_person_counts_once_and_each_engagement_too(store: FeatureStore) -> None:
    store.record_engagements(["i", "i", "i", "j"], ["a", "a", "b", "a"], [AT, AT + 60, AT + 3660, AT])
    counts = store.get([], ["i", "j"]).items["counts"]
    assert counts[:, :2].tolist() == [[3.0, 2.0], [1.0, 1.0]]
    assert counts[:, -1].tolist() == [AT + 3660, AT]
    assert counts[0, 2] == pytest.approx(1 + 0.5 ** (3660 / 3600))
    assert [len(users) for users in store.engaged_with(["i", "j", "k"])] == [2, 1, 0]


def test_an_engagement_that_comes_late_counts_at_its_own_time(store: FeatureStore) -> None:
    store.record_engagements(["i", "i"], ["a", "b"], [AT + 3600, AT])
    counts = store.get([], ["i"]).items["counts"][0]
    assert counts[2] == pytest.approx(1.5)
    assert counts[-1] == AT + 3600


def test_an_items_vector_is_the_sum_over_those_who_engaged_once_each(store: FeatureStore) -> None:
    store.put_users(["a", "b"], block(2), EPOCH)
    store.record_engagements(["i"] * 4, ["a", "b", "b", "nobody"], [AT] * 4)
    row = store.get([], ["i"]).items
    assert np.array_equal(row["vector"][0], block(2).vector.sum(axis=0))
    assert row["epoch"][0] == EPOCH


def test_embeddings_of_two_epochs_are_never_added_up(store: FeatureStore) -> None:
    store.put_users(["a"], block(1), EPOCH)
    store.record_engagements(["i"], ["a"], [AT])
    store.put_users(["b"], block(1), EPOCH + 604800)
    store.record_engagements(["i"], ["b"], [AT])
    row = store.get([], ["i"]).items
    assert np.array_equal(row["vector"][0], block(1).vector[0])
    assert row["counts"][0, 1] == 2


def test_vectors_are_replaced_only_while_the_same_people_have_engaged(store: FeatureStore) -> None:
    store.put_users(["a"], block(1), EPOCH)
    store.record_engagements(["i", "j", "j"], ["a", "a", "b"], [AT] * 3)
    fresh = np.full((3, DIMENSIONS), 9, np.float32)
    assert store.put_item_vectors(["i", "j", "k"], fresh, EPOCH + 604800, [1, 1, 0]) == ["j"]
    rows = store.get([], ["i", "j", "k"]).items
    assert rows["vector"][:, 0].tolist() == [9, 0, 0]
    assert rows["epoch"].tolist() == [EPOCH + 604800, EPOCH, 0]
    assert rows["counts"][0, 0] == 1


def test_published_counts_go_on_counting(store: FeatureStore) -> None:
    rows = np.zeros(1, ITEM)
    rows["counts"], rows["epoch"] = [5, 1, 1, 1, 1, AT], EPOCH
    store.put_items(["i"], rows, [author_key(["a"])])
    store.record_engagements(["i", "i"], ["a", "b"], [AT, AT])
    assert store.get([], ["i"]).items["counts"][0].tolist() == [7, 2, 2, 2, 2, AT]


def test_somebody_forgotten_is_no_author_and_among_nobody_who_engaged(store: FeatureStore) -> None:
    mine, another = author_key(["a"]), author_key(["b"])
    store.put_authors(np.concatenate([mine, another]), np.ones(2, AUTHOR))
    store.record_engagements(["i", "i", "j"], ["a", "b", "a"], [AT, AT, AT])
    store.delete_users(["a"])
    store.disengage("a", ["i", "never heard of"])
    assert store.get_authors(mine)["stats"][0, 0] == 0
    assert store.get_authors(another)["stats"][0, 0] == 1
    assert [keys.tolist() for keys in store.engaged_with(["i", "j"])] == [another.tolist(), mine.tolist()]
    assert store.get([], ["i"]).items["counts"][0, 0] == 2
    store.delete_items(["i"])
    store.delete_items([])
    assert store.engaged_with(["i"])[0].tolist() == []
    assert store.get([], ["i"]).items["counts"][0, 0] == 0
