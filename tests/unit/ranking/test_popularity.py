"""The score where no model serves: a rate, never far off, higher for what draws more and for who answers more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.items import ItemTable, MemoryItemStore
from ranking.popularity import MODEL_ID, Popularity, PopularityRule, answer_rates, lifts
from ranking.store import MemoryFeatureStore

NOW = 1_700_000_000.0
RULE = PopularityRule()
counts = st.floats(0, 1e6, width=32)


@given(st.lists(st.tuples(counts, counts), min_size=1), st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1e9))
def test_whatever_was_counted_a_rate_and_a_lift_stay_within_their_ends(
    people: list[tuple[float, float]], draws: list[float], typical: float
) -> None:
    sent, answered = np.array(people).T
    rate = answer_rates(sent, answered, RULE)
    assert ((rate > 0) & (rate <= 1)).all()
    lift = lifts(np.array(draws), typical, RULE)
    assert ((lift >= RULE.least_lift) & (lift <= RULE.most_lift)).all()
    assert (np.diff(lift[np.argsort(draws)]) >= 0).all()


def test_nobody_known_answers_at_the_prior_and_evidence_moves_it_to_what_was_seen() -> None:
    rate = answer_rates(np.array([0.0, np.nan, 20.0, 20_000.0]), np.array([0.0, np.nan, 8.0, 8_000.0]), RULE)
    assert rate == pytest.approx([0.05, 0.05, 9 / 40, 0.4], abs=1e-3)


def test_what_draws_more_scores_higher_and_a_typical_mix_scores_the_readers_rate() -> None:
    store, items = MemoryFeatureStore(), MemoryItemStore()
    ids = [f"i{n}" for n in range(5)]
    items.put([{"item_id": name, "created_at": NOW - 3600} for name in ids])
    for place, name in enumerate(ids):
        readers = [f"r{n}" for n in range(10 * place)]
        store.record_engagements([name] * len(readers), readers, [NOW - 60.0] * len(readers))
    table = ItemTable(items)
    table.sync(NOW)
    user, item = np.zeros(5, np.int32), np.arange(5, dtype=np.int32)
    scores = Popularity(store, table).score(["ann"], ids, user, item, NOW)
    assert (np.diff(scores.probability) > 0).all()
    assert scores.probability.mean() == pytest.approx(RULE.rate, rel=0.02)
    assert (scores.value == scores.probability).all()
    assert scores.model_id == MODEL_ID
    assert (scores.known_user.tolist(), scores.known_item.tolist()) == ([False], [False, True, True, True, True])


def test_without_items_or_counts_everything_scores_the_prior() -> None:
    scores = Popularity(MemoryFeatureStore(), ItemTable(MemoryItemStore())).score(
        ["ann"], ["new"], np.zeros(1, np.int32), np.zeros(1, np.int32), NOW
    )
    assert scores.probability == pytest.approx([RULE.rate])
