"""Ids in, scores out."""

from __future__ import annotations

import numpy as np
import pytest

from lake.items import ItemTable, MemoryItemStore
from ranking.blocks import even_week
from ranking.features import FEATURES
from ranking.scorer import ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import scorer_of

AT = 1_700_000_000.0


def ask(users: list[str], items: list[str]) -> ScoreRequest:
    user, item = np.repeat(np.arange(len(users)), len(items)), np.tile(np.arange(len(items)), len(users))
    return ScoreRequest(users, items, user.astype(np.int32), item.astype(np.int32), np.zeros(len(user), np.uint8), ("in_app",), AT)


def test_unknown_users_and_items_get_finite_scores_and_are_said_to_be_unknown() -> None:
    scorer = scorer_of(MemoryFeatureStore(), ItemTable(MemoryItemStore()))
    asked = ask(["u", "v"], ["i", "j"])
    scores = scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, AT)
    assert np.isfinite(scores.probability).all()
    assert np.array_equal(scores.probability, scores.value)
    assert scores.known_user.tolist() == scores.known_item.tolist() == [False, False]
    assert scores.model_id == scorer.model_id


def test_a_brand_new_item_is_scored_with_its_own_columns() -> None:
    items = MemoryItemStore()
    scorer = scorer_of(MemoryFeatureStore(), ItemTable(items))
    before = scorer.prepare(ask(["u"], ["old"])).features(slice(0, 1))
    items.put([{"item_id": "new", "created_at": AT - 7200, "topics": ["a", "b"]}])
    job = scorer.prepare(ask(["u"], ["new"]))
    age, topics = FEATURES.index("item_age_h"), FEATURES.index("item_topics")
    assert job.features(slice(0, 1))[0, [age, topics]].tolist() == [2.0, 2.0]
    assert before[0, age] == 0.0
    assert job.known_item.tolist() == [True]


def test_chunks_score_every_row_once_and_pause_between() -> None:
    scorer = scorer_of(MemoryFeatureStore(), ItemTable(MemoryItemStore()))
    scorer.chunk_rows = 7
    asked = ask([f"u{i}" for i in range(5)], [f"i{i}" for i in range(4)])
    jobs = list(scorer.chunks(asked))
    whole = scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, AT)
    assert len(jobs) == 3
    assert np.array_equal(jobs[-1].scores().probability, whole.probability)


def test_author_rows_are_kept_until_the_next_refresh() -> None:
    store, items = MemoryFeatureStore(), MemoryItemStore()
    items.put([{"item_id": "i", "created_at": AT, "author_id": "ann"}])
    scorer = scorer_of(store, ItemTable(items))
    asked = ask(["u"], ["i"])
    column = [FEATURES.index(name) for name in ("author_items_90d", "author_engaged_14d", "author_rate_90d", "author_recency_h")]

    def author_stats() -> list[float]:
        row: list[float] = scorer.prepare(asked).features(slice(0, 1))[0, column].tolist()
        return row

    store.mark_refreshed(1.0, even_week())
    before = author_stats()
    key = scorer.table.items.author
    rows = store.get_authors(key).copy()
    rows["stats"] = 4.0
    store.put_authors(key, rows)
    assert np.array_equal(author_stats(), before, equal_nan=True)
    store.mark_refreshed(2.0, even_week())
    assert author_stats() == pytest.approx([4.0, 4.0, 7 / 5, 4.0])
