"""Light, then heavy: a crowd of candidates is cut to a limit per user, and the best of it stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.items import ItemTable, MemoryItemStore
from ranking import bundle as bundles
from ranking.bundle import Bundle, BundleError, Window
from ranking.calibration import Calibration
from ranking.features import FEATURES
from ranking.light import best_of_each, distil, explained, whole
from ranking.scorer import Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import booster, bundle_of

AT = 1_700_000_000.0
OWNERS = arrays(np.int32, st.integers(1, 60), elements=st.integers(0, 6))


def with_light() -> Bundle:
    heavy = bundle_of()
    rows = np.random.default_rng(1).normal(size=(2_000, len(FEATURES))).astype(np.float32)
    return replace(heavy, light=distil(rows, heavy.margins(rows)))


def scorer(bundle: Bundle, limit: int) -> Scorer:
    items = MemoryItemStore()
    items.put(
        [{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": f"a{i % 7}", "topics": ["a", "b"][: i % 3]} for i in range(40)]
    )
    store = MemoryFeatureStore()
    made = np.random.default_rng(3).integers(0, 20, 200)
    store.record_engagements([f"i{i}" for i in made], [f"u{i}" for i in range(200)], (AT - 60 - np.arange(200)[::-1]).tolist())
    return Scorer(bundle, store, ItemTable(items), most_per_user=limit)


def request(sizes: list[int]) -> ScoreRequest:
    """Rows of users in no order, so many of each."""
    user = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    item = np.concatenate([np.arange(size) for size in sizes]).astype(np.int32)
    order = np.random.default_rng(0).permutation(len(user))
    names = [f"u{i}" for i in range(len(sizes))], [f"i{i}" for i in range(40)]
    return ScoreRequest(*names, user[order], item[order], np.zeros(len(user), np.uint8), ("in_app",), AT)


@pytest.mark.parametrize("chunk_rows", [7, 1_000])
def test_rows_over_the_limit_are_cut_and_the_others_get_the_scores_they_would_get_alone(chunk_rows: int) -> None:
    sizes, asked = [40, 3, 25, 10], request([40, 3, 25, 10])
    limited, plain = scorer(with_light(), 10), scorer(bundle_of(), 10)
    limited.chunk_rows = chunk_rows
    *_, job = limited.chunks(asked)
    *_, heavy = plain.chunks(asked)
    kept = ~job.cut
    assert np.bincount(asked.user[kept]).tolist() == [min(size, 10) for size in sizes]
    scores, whole_scores = job.scores(), heavy.scores()
    assert np.array_equal(scores.value[kept], whole_scores.value[kept])
    assert np.isnan(scores.value[job.cut]).all()
    assert np.isnan(scores.probability[job.cut]).all()
    assert not np.isnan(whole_scores.value).any()


def test_the_best_of_a_crowd_are_kept() -> None:
    asked = request([40] * 12)
    *_, job = scorer(with_light(), 20).chunks(asked)
    *_, heavy = scorer(bundle_of(), 20).chunks(asked)
    best = best_of_each(asked.user, heavy.scores().value, 3)
    assert not (best & job.cut).any()
    assert job.cut.sum() == 12 * 20


@given(OWNERS, st.integers(1, 5))
def test_each_owner_keeps_the_highest_scores_and_as_many_as_may_stay(owner: np.ndarray, most: int) -> None:
    score = np.random.default_rng(len(owner)).normal(size=len(owner)).astype(np.float32)
    kept = best_of_each(owner, score, most)
    for one in set(owner.tolist()):
        mine = owner == one
        assert sorted(score[mine & kept].tolist()) == sorted(score[mine].tolist())[-most:]


@given(OWNERS, st.integers(1, 20))
def test_slices_hold_every_row_once_and_no_owner_twice(owner: np.ndarray, rows: int) -> None:
    owner = np.sort(owner)
    slices = whole(owner, rows)
    assert np.array_equal(np.concatenate([owner[part] for part in slices]), owner)
    assert sum(len(set(owner[part].tolist())) for part in slices) == len(set(owner.tolist()))
    largest = int(np.bincount(owner).max())
    assert all(0 < part.stop - part.start < rows + largest for part in slices)


def test_a_light_model_explains_most_of_a_heavy_one_and_a_constant_nothing() -> None:
    bundle = with_light()
    rows = np.random.default_rng(9).normal(size=(500, len(FEATURES))).astype(np.float32)
    margin = bundle.margins(rows)
    assert 0.5 < explained(bundle.foretold(rows), margin) < 1
    assert explained(np.full(500, margin.mean(), np.float32), margin) == pytest.approx(0, abs=1e-6)


def test_a_bundle_keeps_the_light_model_and_its_id_names_it(tmp_path: Path) -> None:
    made, curve, window = with_light(), Calibration.identity(), Window(0.0, 1.0)
    plain = bundles.write(tmp_path / "plain", booster(), curve, {}, window, 2.0)
    named = bundles.write(tmp_path / "light", booster(), curve, {}, window, 2.0, light=made.light)
    assert plain != named
    rows = np.random.default_rng(9).normal(size=(50, len(FEATURES))).astype(np.float32)
    assert np.array_equal(bundles.load(tmp_path / "light").foretold(rows), made.foretold(rows))
    assert bundles.load(tmp_path / "plain", verified=True).light is None
    (tmp_path / "light" / bundles.LIGHT).write_bytes(b"{}")
    with pytest.raises(BundleError, match="SHA-256"):
        bundles.verify(tmp_path / "light")
