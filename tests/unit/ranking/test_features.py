"""What each feature says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lake.ids import Keys64, author_key, hash64, topic_key
from ranking import features
from ranking.blocks import (
    AUTHOR_AFFINITY,
    AUTHOR_STATS,
    DIMENSIONS,
    ITEM_COUNTS,
    TEXT_DIMENSIONS,
    TOPIC_AFFINITY,
    TOPIC_STATS,
    USER_STATS,
    ItemBlock,
    Lists,
    Matrix,
    UserBlock,
    even_week,
)
from ranking.features import FEATURES, assemble, order_of
from ranking.rows import blank_stats

AT = 1_700_000_000.0
NO_CHANNEL = np.array([255], np.uint8)


def nobody() -> UserBlock:
    return UserBlock(
        np.array([AT]),
        blank_stats(1),
        np.zeros((1, DIMENSIONS), np.float32),
        np.zeros((1, TEXT_DIMENSIONS), np.float32),
        Lists.empty(1, len(AUTHOR_AFFINITY)),
        Lists.empty(1, len(TOPIC_AFFINITY)),
    )


def new_item(topics: tuple[str, ...] = ("a", "b")) -> ItemBlock:
    keys = topic_key(topics)
    return ItemBlock(
        at=np.array([AT]),
        created_at=np.array([AT - 7200]),
        latitude=np.array([48.8566], np.float32),
        longitude=np.array([2.3522], np.float32),
        author=author_key(["ann"]),
        kind=hash64(["room"]),
        topics=keys[None, :],
        counts=np.array([[0.0] * (len(ITEM_COUNTS) - 1) + [np.nan]]),
        vector=np.zeros((1, DIMENSIONS), np.float32),
        text=np.zeros((1, TEXT_DIMENSIONS), np.float32),
        author_stats=np.array([[1.0] * len(AUTHOR_STATS)], np.float32),
        author_vector=np.zeros((1, DIMENSIONS), np.float32),
        audience_vector=np.zeros((1, DIMENSIONS), np.float32),
        topic_keys=np.sort(keys),
        topic_stats=np.ones((len(keys), len(TOPIC_STATS)), np.float32),
        week=even_week(),
    )


def value(users: UserBlock, items: ItemBlock, name: str) -> float:
    row = assemble(users, items, np.zeros(1, np.int32), np.zeros(1, np.int32), NO_CHANNEL)
    assert row.dtype == np.float32
    assert row.flags.c_contiguous
    return float(row[0, FEATURES.index(name)])


def test_the_age_of_an_item_is_in_hours_at_the_moment() -> None:
    assert value(nobody(), new_item(), "item_age_h") == 2.0


def test_counts_of_an_item_decay_from_its_last_engagement_to_the_moment() -> None:
    counts = np.array([[3.0, 2.0, 2.0, 2.0, 2.0, AT - 3600]])
    items = replace(new_item(), counts=counts)
    assert value(nobody(), items, "item_users_1h") == 1.0
    assert value(nobody(), items, "item_users_1d") == pytest.approx(2 * 0.5 ** (1 / 24))
    assert value(nobody(), items, "item_quiet_h") == 1.0


def test_what_is_not_known_is_missing_instead_of_zero() -> None:
    assert np.isnan(value(nobody(), new_item(), "user_recency_h"))
    assert np.isnan(value(nobody(), new_item(), "item_quiet_h"))
    assert np.isnan(value(nobody(), new_item(), "channel"))


def test_more_engagement_with_a_topic_raises_the_affinity_of_its_items() -> None:
    def liking(amount: float) -> UserBlock:
        values = np.full((1, len(TOPIC_AFFINITY)), amount, np.float32)
        return replace(nobody(), topics=Lists(np.array([0, 1]), topic_key(["b"]), values))

    for name in ("by_topic_30d_most", "by_topic_180d_sum", "by_topic_rate_most", "by_topic_share_most"):
        assert value(nobody(), new_item(), name) == 0
        assert value(liking(1), new_item(), name) < value(liking(2), new_item(), name)


def test_what_was_sent_of_an_author_a_topic_and_a_kind_is_known() -> None:
    def told(key: Keys64, amount: float) -> Lists:
        values = np.zeros((1, len(TOPIC_AFFINITY)), np.float32)
        values[0, TOPIC_AFFINITY.index("sent_14d")] = amount
        return Lists(np.array([0, 1]), key, values)

    assert value(replace(nobody(), authors=told(author_key(["ann"]), 3)), new_item(), "by_author_sent") == 3
    assert value(replace(nobody(), topics=told(topic_key(["b"]), 2)), new_item(), "by_topic_sent_most") == 2
    assert value(replace(nobody(), topics=told(hash64(["room"]), 4)), new_item(), "by_kind_sent") == 4
    assert value(replace(nobody(), topics=told(hash64(["post"]), 4)), new_item(), "by_kind_sent") == 0


def test_words_like_those_that_were_read_are_alike() -> None:
    def about(*entries: float) -> Matrix:
        return np.array([[*entries, *np.zeros(TEXT_DIMENSIONS - len(entries))]], np.float32)

    users = replace(nobody(), text=about(0.3, 0.4))
    assert value(users, replace(new_item(), text=about(0.6, 0.8)), "text_likeness") == pytest.approx(0.5)
    assert value(users, replace(new_item(), text=about(0.6, 0.8)), "text_angle") == pytest.approx(1, abs=5e-3)
    assert value(users, replace(new_item(), text=about(-0.8, 0.6)), "text_angle") == pytest.approx(0, abs=1e-6)
    assert value(nobody(), replace(new_item(), text=about(1.0)), "text_angle") == 0


def test_affinity_with_other_topics_says_nothing() -> None:
    values = np.ones((1, len(TOPIC_AFFINITY)), np.float32)
    elsewhere = replace(nobody(), topics=Lists(np.array([0, 1]), topic_key(["c"]), values))
    assert value(elsewhere, new_item(), "by_topic_180d_most") == 0


def test_an_item_ages_only_while_people_are_about() -> None:
    hour = int((AT - 7200) // 3600 % 168)
    assert value(nobody(), new_item(), "item_age_active") == pytest.approx(2 / 168)
    asleep = replace(new_item(), week=np.where(np.arange(169) > hour + 9, 1.0, 0.0))
    assert value(nobody(), asleep, "item_age_active") == 0
    busy = replace(new_item(), week=np.where(np.arange(169) > hour, 1.0, 0.0))
    assert 0 < value(nobody(), busy, "item_age_active") <= 1


def test_what_a_user_did_since_an_item_was_born_is_known_to_the_day_and_shared_out_within_it() -> None:
    stats = blank_stats(1)
    stats[0, [USER_STATS.index(name) for name in ("day_0", "day_1", "recency_h")]] = [4, 2, 1]
    users = replace(nobody(), stats=stats)
    for age_days, touched in ((0.5, 2.0), (1.0, 4.0), (1.5, 5.0), (30.0, 6.0), (-1.0, 0.0)):
        item = replace(new_item(), created_at=np.array([AT - age_days * 86400]))
        assert value(users, item, "touched_since") == pytest.approx(touched)
        assert value(users, item, "seen_since_h") == pytest.approx(24 * age_days - 1, abs=1e-3)
    assert np.isnan(value(nobody(), new_item(), "seen_since_h"))


def test_local_time_is_the_users_own() -> None:
    stats = blank_stats(1)
    stats[0, USER_STATS.index("offset_minutes")] = -180
    users = replace(nobody(), stats=stats)
    assert value(users, new_item(), "local_hour") == (AT // 3600 - 3) % 24
    assert value(users, new_item(), "local_day") == 1  # 2023-11-14 was a Tuesday


def test_the_search_for_many_pairs_finds_what_the_dense_table_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    keys = np.sort(author_key([f"a{i}" for i in range(40)]))
    start = np.arange(0, 40 * 31, 40, dtype=np.int64)[:31]
    chosen = np.tile(keys, 30)[: start[-1]]
    lists = Lists(start, chosen, random.random((len(chosen), len(AUTHOR_AFFINITY))).astype(np.float32))
    users = UserBlock(
        np.full(30, AT),
        np.repeat(blank_stats(1), 30, axis=0),
        np.zeros((30, DIMENSIONS), np.float32),
        np.zeros((30, TEXT_DIMENSIONS), np.float32),
        lists,
        Lists.empty(30, len(TOPIC_AFFINITY)),
    )
    items = replace(new_item(), author=keys[3:4])
    rows = np.arange(30, dtype=np.int32)
    there = (users, items, rows, np.zeros(30, np.int32), np.zeros(30, np.uint8))
    dense = assemble(*there)
    monkeypatch.setattr(features, "DENSE_CELLS", 0)
    assert np.array_equal(dense, assemble(*there), equal_nan=True)


def test_likeness_is_a_product_and_its_angle_knows_no_size() -> None:
    def towards(*entries: float) -> np.ndarray:
        return np.array([[*entries, *np.zeros(DIMENSIONS - len(entries))]], np.float32)

    users, items = replace(nobody(), vector=towards(3, 4)), replace(new_item(), vector=towards(8, 6), audience_vector=towards(0, 2))
    assert value(users, items, "likeness") == 48
    assert value(users, items, "likeness_audience") == 8
    assert value(users, items, "likeness_angle") == pytest.approx(0.96, abs=1e-4)
    assert value(users, replace(items, vector=towards(80, 60)), "likeness_angle") == pytest.approx(0.96, abs=1e-4)
    assert value(nobody(), items, "likeness_angle") == 0


def test_distance_is_along_a_great_circle_and_missing_where_a_place_is() -> None:
    paris, users = new_item(), nobody()
    assert np.isnan(value(users, paris, "distance_km"))
    at = [USER_STATS.index("latitude"), USER_STATS.index("longitude")]
    for (latitude, longitude), km in {(51.5074, -0.1278): 343.6, (-33.8688, 151.2093): 16_960, (48.8566, 2.3522): 0.0}.items():
        users.stats[0, at] = latitude, longitude
        assert value(users, paris, "distance_km") == pytest.approx(km, rel=2e-3, abs=0.1)
    users.stats[0, at[0]] = np.nan
    assert np.isnan(value(users, paris, "distance_km"))


def test_who_answers_notifications_has_a_higher_rate_than_who_does_not() -> None:
    users, item = nobody(), new_item()
    assert value(users, item, "user_answer_rate") == pytest.approx(0.1)
    users.stats[0, USER_STATS.index("sent_28d")] = 10
    assert value(users, item, "user_answer_rate") == pytest.approx(0.05)
    users.stats[0, USER_STATS.index("answered_28d")] = 9
    assert value(users, item, "user_answer_rate") == pytest.approx(0.5)


def test_columns_in_another_order_are_refused() -> None:
    order_of(FEATURES)
    with pytest.raises(ValueError, match="feature 0 is"):
        order_of(FEATURES[::-1])
    with pytest.raises(ValueError, match="features where"):
        order_of(FEATURES[:-1])
