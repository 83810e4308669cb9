"""The score where no model serves: a rate that was found to come true, higher for what draws more and for who answers more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking import bundle as bundles
from ranking.calibration import Calibration, fit
from ranking.evaluation import expected_over_observed
from ranking.features import FEATURES
from ranking.in_service import popular_in_service
from ranking.popularity import MODEL_ID, UNTRAINED, USUAL_RATE, Popularity, margins, margins_of
from ranking.registry import Registry
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import booster, write_bundle

NOW = 1_700_000_000.0
CURVE = Calibration(np.array([-3.0, 0.0]), np.array([-4.0, -1.0]))
counts = st.floats(0, 1e6, width=32)
codes = np.zeros(5, np.int32)


@given(st.lists(st.tuples(counts, counts, st.floats(0, 1e9)), min_size=1))
def test_whatever_was_counted_a_margin_is_finite(rows: list[tuple[float, float, float]]) -> None:
    assert np.isfinite(margins(*np.array(rows).T)).all()


def test_evidence_moves_a_reader_from_the_usual_rate_to_the_one_seen_and_draw_adds_to_it() -> None:
    sent, answered = np.array([0.0, np.nan, 20.0, 20_000.0]), np.array([0.0, np.nan, 8.0, 8_000.0])
    rate = 1 / (1 + np.exp(-margins(sent, answered, np.zeros(4))))
    assert rate == pytest.approx([0.05, 0.05, 9 / 40, 0.4], abs=1e-3)
    draws = margins(np.zeros(4), np.zeros(4), np.array([0.0, 5.0, 50.0, 500.0]))
    assert (np.diff(draws) > 0.6).all()


def test_rows_of_training_and_rows_that_are_served_have_one_margin() -> None:
    rows = np.full((2, len(FEATURES)), np.nan, np.float32)
    for name, values in {"user_sent_28d": [10, 0], "user_answered_28d": [4, 0], "item_users_7d": [12, 3]}.items():
        rows[:, FEATURES.index(name)] = values
    assert margins_of(rows).tolist() == margins(np.array([10.0, 0]), np.array([4.0, 0]), np.array([12.0, 3])).tolist()


def drawn() -> tuple[MemoryFeatureStore, list[str]]:
    """Return features in which item number n has drawn 10 n people, and the items."""
    store, ids = MemoryFeatureStore(), [f"i{n}" for n in range(5)]
    for place, name in enumerate(ids):
        readers = [f"r{n}" for n in range(10 * place)]
        store.record_engagements([name] * len(readers), readers, [NOW - 60.0] * len(readers))
    return store, ids


def test_what_draws_more_scores_higher_by_the_trained_curve() -> None:
    store, ids = drawn()
    scores = Popularity(store, lambda _: CURVE).score(["ann"], ids, codes, np.arange(5, dtype=np.int32), NOW)
    assert (np.diff(scores.probability) > 0).all()
    first = margins(np.zeros(1), np.zeros(1), np.zeros(1))
    assert scores.probability[0] == CURVE(first)[0]
    assert (scores.value == scores.probability).all()
    assert scores.model_id == MODEL_ID
    assert (scores.known_user.tolist(), scores.known_item.tolist()) == ([False], [False, True, True, True, True])


def test_untrained_nobody_is_far_from_the_usual_rate() -> None:
    store, ids = drawn()
    told = Popularity(store).score(["ann"], ids, codes, np.arange(5, dtype=np.int32), NOW).probability
    assert told[0] == pytest.approx(USUAL_RATE)
    assert (np.diff(told) > 0).all()
    assert told.max() < 2 * USUAL_RATE


def with_popular(folder: Path, popular: Calibration | None) -> Path:
    """Write a bundle with a curve of popularity."""
    bundles.write(folder, booster(), CURVE, {}, bundles.Window(0.0, 1.0), 2.0, popular=popular)
    return folder


def test_the_curve_of_the_model_in_service_counts_and_comes_with_it(tmp_path: Path) -> None:
    folder, registry = with_popular(tmp_path / "model", CURVE), Registry(tmp_path / "models")
    assert popular_in_service(folder).as_json() == CURVE.as_json()
    loaded = bundles.load(folder, verified=True)
    assert loaded.popular is not None
    assert loaded.popular.as_json() == CURVE.as_json()
    assert loaded.model_id == bundles.write(tmp_path / "other", booster(), CURVE, {}, bundles.Window(0.0, 1.0), 2.0)
    registry.install(registry.add(folder), 3.0)
    assert popular_in_service(tmp_path / "models").as_json() == CURVE.as_json()


def test_a_curve_that_is_missing_or_damaged_leaves_the_usual_rate_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert popular_in_service(write_bundle(tmp_path / "without")) is UNTRAINED
    assert not caplog.records
    folder = with_popular(tmp_path / "model", CURVE)
    (folder / bundles.POPULAR).write_text('{"margin": [0], "log_odds": [0], "slope": 1}')
    assert popular_in_service(folder) is UNTRAINED
    assert "popularity.json: is not the file that was written" in caplog.records[0].getMessage()
    assert popular_in_service(tmp_path / "nowhere") is UNTRAINED


def test_a_fitted_curve_expects_what_comes() -> None:
    """Readers who answer more and items that draw more are answered more, but by another law than the margin's."""
    random = np.random.default_rng(3)
    sent, people = random.poisson(20, 40_000), random.gamma(0.5, 20, 40_000)
    habit = random.beta(1, 6, 40_000)
    answered = random.binomial(sent, habit)
    label = random.random(40_000) < np.clip(habit * np.sqrt(1 + people / 10) / 2, 0, 1)

    margin, first = margins(sent, answered, people), np.arange(40_000) < 20_000
    told = fit(margin[first], label[first], np.ones(20_000))(margin[~first])
    assert expected_over_observed(told, label[~first], np.ones(20_000)) == pytest.approx(1.0, abs=0.05)
    raw = Calibration.identity()(margin[~first])
    assert expected_over_observed(raw, label[~first], np.ones(20_000)) > 1.5
    tenth = np.argsort(told)
    assert label[~first][tenth[-2_000:]].mean() > 3 * label[~first][tenth[:2_000]].mean()
