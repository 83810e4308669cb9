"""The score where no model serves: learned with every model, higher for who does more and for what draws more as far as that came true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.items import ItemTable, MemoryItemStore
from ranking import bundle as bundles
from ranking.calibration import Calibration
from ranking.evaluation import auc, expected_over_observed
from ranking.features import FEATURES
from ranking.in_service import popular_in_service
from ranking.popular_scorer import Popularity
from ranking.popularity import MODEL_ID, UNTRAINED, USUAL_RATE, Worth, born_lately, fit, signals, signals_of
from ranking.registry import Registry
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import booster, write_bundle

NOW = 1_700_000_000.0
WORTH = Worth((1.0, 0.5, 0.5, 1.0, 0.5), -0.5)
counts = st.floats(width=32) | st.floats(0, 1e6, width=32)
CODES = np.zeros(5, np.int32)


@given(st.lists(st.tuples(*[counts] * 6), min_size=1))
def test_whatever_was_counted_signals_are_finite(rows: list[tuple[float, ...]]) -> None:
    found = np.array(rows)
    assert np.isfinite(signals(found[:, :3], found[:, 3], found[:, 4], found[:, 5])).all()


def test_evidence_moves_a_reader_from_the_usual_rate_to_the_one_seen() -> None:
    reader = np.array([[0.0, 0, 0], [np.nan] * 3, [20, 8, 0], [20_000, 8_000, 0]])
    odds = signals(reader, np.zeros(4), np.zeros(4), np.zeros(4))[:, 0]
    assert 1 / (1 + np.exp(-odds)) == pytest.approx([0.05, 0.05, 9 / 40, 0.4], abs=1e-3)


def test_rows_of_training_and_rows_that_are_served_have_the_same_signals() -> None:
    rows = np.full((2, len(FEATURES)), np.nan, np.float32)
    given_as = {
        "user_sent_28d": [10, 0],
        "user_answered_28d": [4, 0],
        "user_engaged_14d": [2, 1],
        "item_users_7d": [12, 3],
        "item_age_h": [1, 99],
    }
    for name, values in given_as.items():
        rows[:, FEATURES.index(name)] = values
    born = np.array([40.0, 7])
    served = signals(np.array([[10.0, 4, 2], [0, 0, 1]]), np.array([12.0, 3]), np.array([1.0, 99]), born)
    assert signals_of(rows, born).tolist() == served.tolist()


def drawn(*ages_h: float) -> tuple[MemoryFeatureStore, ItemTable, list[str]]:
    """Return features in which item number n has drawn 10 n people, the items by age, and their ids."""
    store, items, ids = MemoryFeatureStore(), MemoryItemStore(), [f"i{n}" for n in range(5)]
    items.put([{"item_id": name, "created_at": NOW - 3600 * age_h} for name, age_h in zip(ids, ages_h or (1.0,) * 5, strict=True)])
    for place, name in enumerate(ids):
        readers = [f"r{n}" for n in range(10 * place)]
        store.record_engagements([name] * len(readers), readers, [NOW - 60.0] * len(readers))
    table = ItemTable(items)
    table.sync(NOW)
    return store, table, ids


def test_what_draws_more_and_what_is_newer_scores_higher_by_what_was_learned() -> None:
    every = np.arange(5, dtype=np.int32)
    store, table, ids = drawn()
    scores = Popularity(store, table, lambda _: WORTH).score(["ann"], ids, CODES, every, NOW)
    assert (np.diff(scores.probability) > 0).all()
    assert scores.probability[0] == WORTH(signals(np.zeros((1, 3)), np.zeros(1), np.ones(1), np.full(1, 5.0)))[0]
    assert (scores.value == scores.probability).all()
    assert scores.model_id == MODEL_ID
    assert (scores.known_user.tolist(), scores.known_item.tolist()) == ([False], [False, True, True, True, True])
    store, table, ids = drawn(1, 100, 1_000, 5_000, 9_000)
    assert np.argmax(Popularity(store, table, lambda _: WORTH).score(["ann"], ids, CODES, every, NOW).probability) == 0


def test_where_nothing_was_learned_nobody_is_far_from_the_usual_rate() -> None:
    store, table, ids = drawn()
    told = Popularity(store, table).score(["ann"], [*ids, "unknown"], np.zeros(6, np.int32), np.arange(6, dtype=np.int32), NOW).probability
    assert told[[0, 5]] == pytest.approx([USUAL_RATE] * 2)
    assert (np.diff(told[:5]) > 0).all()
    assert told.max() < 2 * USUAL_RATE


def with_popular(folder: Path, popular: Worth | None) -> Path:
    """Write a bundle that says what popularity is worth."""
    bundles.write(folder, booster(), Calibration.identity(), {}, bundles.Window(0.0, 1.0), 2.0, popular=popular)
    return folder


def test_what_the_model_in_service_says_counts_and_comes_with_it(tmp_path: Path) -> None:
    folder, registry = with_popular(tmp_path / "model", WORTH), Registry(tmp_path / "models")
    assert popular_in_service(folder) == WORTH
    loaded = bundles.load(folder, verified=True)
    assert loaded.popular == WORTH
    assert loaded.model_id == bundles.about(with_popular(tmp_path / "other", None)).model_id
    registry.install(registry.add(folder), 3.0)
    assert popular_in_service(tmp_path / "models") == WORTH


def test_what_is_missing_or_damaged_leaves_the_usual_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert popular_in_service(write_bundle(tmp_path / "without")) is UNTRAINED
    assert not caplog.records
    folder = with_popular(tmp_path / "model", WORTH)
    (folder / bundles.POPULAR).write_text("{}")
    assert popular_in_service(folder) is UNTRAINED
    assert "popularity.json: is not the file that was written" in caplog.records[0].getMessage()
    assert popular_in_service(tmp_path / "nowhere") is UNTRAINED


def test_what_was_learned_expects_what_comes_and_tells_more_likely_rows_apart() -> None:
    """Readers who answer more and items that draw more are answered more, and what is old is answered less."""
    random, n = np.random.default_rng(3), 40_000
    sent, people, age_h = random.poisson(20, n), random.gamma(0.5, 20, n), random.exponential(48, n)
    habit = random.beta(1, 6, n)
    reader = np.stack([sent, random.binomial(sent, habit), random.poisson(3, n)], axis=1)
    label = random.random(n) < np.clip(habit * np.sqrt(1 + people / 10) * np.exp2(-age_h / 48), 0, 1)
    told, first = signals(reader, people, age_h, np.full(n, 30.0)), np.arange(n) < n // 2
    learned = fit(told[first], label[first], np.full(n // 2, 7.0))
    probability = learned(told[~first])
    assert expected_over_observed(probability, label[~first], np.ones(n // 2)) == pytest.approx(1.0, abs=0.05)
    assert auc(probability, label[~first], np.ones(n // 2)) > 0.7
    assert learned.weights[2] > 0.1
    assert learned.weights[3] > 0.1


def test_items_for_everybody_compete_for_two_weeks_and_those_of_a_topic_do_not_count() -> None:
    day, is_topical = 86400.0, np.array([False, False, True, False, False])
    created_at = NOW + day * np.array([-15, -13, -1, 0, 1])
    at = NOW + day * np.array([0, 2, 0, -2])
    assert born_lately(created_at, is_topical, np.array([False, False, True, False]), at).tolist() == [2, 2, 0, 2]


def test_what_is_learned_while_much_comes_holds_while_little_comes() -> None:
    """Readers who engage with so many of what comes a week: the fewer come, the more of each is engaged with."""
    random, n = np.random.default_rng(5), 400_000
    zeros = np.zeros(n)

    def world(born: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        return signals(np.stack([zeros] * 3, axis=1), zeros, zeros, np.full(n, float(born))), random.random(n) < 0.4 / np.sqrt(1 + born)

    learned = fit(*world(400), np.ones(n))
    told, label = world(100)
    assert expected_over_observed(learned(told), label, np.ones(n)) == pytest.approx(1.0, abs=0.06)


def test_what_an_older_training_wrote_counts_as_it_did() -> None:
    older = {"weights": {"answers": 1.0, "activity": 0.5, "draw": 0.25, "freshness": 1.0}, "level": -1.0}
    assert Worth.from_json(older) == Worth((1.0, 0.5, 0.25, 1.0, 0.0), -1.0)
    with pytest.raises(KeyError):
        Worth.from_json({"weights": {"answers": 1.0}, "level": 0.0})


def test_a_handful_of_outcomes_teaches_nothing() -> None:
    told = signals(np.zeros((30, 3)), *np.zeros((3, 30)))
    assert fit(told, np.arange(30) < 9, np.ones(30)) is UNTRAINED
    assert fit(told, np.ones(30, bool), np.ones(30)) is UNTRAINED
