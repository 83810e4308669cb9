"""A replica changes models while it serves: no request is dropped, and every answer is by the one model it names."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lake.items import ItemTable, MemoryItemStore
from ranking import bundle as bundles
from ranking.calibration import Calibration
from ranking.features import FEATURES
from ranking.gates import Verdict
from ranking.opt_out import OptOut
from ranking.ray_ranker import Ranking, Stores
from ranking.registry import POINTER, Registry
from ranking.relief import scores_of
from ranking.scorer import Scorer, ScoreRequest, Scores
from ranking.shadow import MemoryShadowLog, ShadowRule
from ranking.store import MemoryFeatureStore
from ranking.value import ValueRule
from tests.unit.ranking.models import booster, write_bundle

AT = 1_700_000_000.0
PASSED = [Verdict("schema", True, "same")]
SIZES = (1, 40, 700, 3000)


def stores(log: MemoryShadowLog | None = None) -> Stores:
    items = MemoryItemStore()
    items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": "u1", "topics": ["a"]} for i in range(5)])
    features = MemoryFeatureStore()
    features.record_engagements(["i1", "i2"], ["u1", "u2"], [AT - 60, AT - 50])
    return Stores(features, items, log)


def request(seed: int, rows: int, model_id: str = "") -> ScoreRequest:
    random = np.random.default_rng(seed)
    user, item = np.sort(random.integers(0, 9, rows)).astype(np.int32), random.integers(0, 7, rows).astype(np.int32)
    names = [f"u{seed}-{i}" for i in range(9)]
    return ScoreRequest(names, [f"i{i}" for i in range(7)], user, item, np.zeros(rows, np.uint8), ("in_app",), AT + seed, model_id)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    # A trial process per swap would take seconds; that `verify` finds what is wrong is tested with bundles.
    monkeypatch.setattr(bundles, "verify", lambda folder: bundles.load(folder, verified=True))
    registry = Registry(tmp_path / "models")
    ids = [registry.add(write_bundle(tmp_path / str(seed), seed)) for seed in range(2)]
    registry.install(ids[1], 0.0)
    registry.install(ids[0], 1.0)
    return registry


def alone(registry: Registry, asked: ScoreRequest, model_id: str) -> Scores:
    there = stores()
    scorer = Scorer(bundles.load(registry.folder_of(model_id), verified=True), there.features, ItemTable(there.items))
    return scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, float(asked.at))


async def test_callers_get_whole_answers_of_one_model_each_while_models_change_back_and_forth(registry: Registry) -> None:
    ranking = Ranking(str(registry.folder), stores, look_every_s=0.002)
    asked = [request(seed, rows) for seed, rows in enumerate(SIZES)]
    ids = sorted({registry.standing().serving, *registry.standing().previous})
    expected = {(model_id, i): alone(registry, one, model_id).probability for i, one in enumerate(asked) for model_id in ids}
    answers: list[tuple[int, Scores]] = []

    async def ask(place: int, *, is_urgent: bool) -> str:
        scores = await ranking.score(asked[place], is_urgent)
        answers.append((place, scores))
        return scores.model_id

    for change in range(12):
        wanted, seen = ids[change % 2], {""}
        registry.install(wanted, float(change))
        while seen != {wanted}:
            seen = set(await asyncio.gather(*(ask(number % len(asked), is_urgent=number % 3 == 0) for number in range(16))))
    ranking.stop()
    assert {scores.model_id for _, scores in answers} == set(ids)
    for place, scores in answers:
        assert np.array_equal(scores.probability, expected[scores.model_id, place])


async def test_a_request_may_ask_for_the_model_that_served_before(registry: Registry) -> None:
    ranking = Ranking(str(registry.folder), stores, look_every_s=60)
    first, second = registry.standing().serving, registry.standing().previous[0]
    registry.promote(second, PASSED, 2.0)
    assert ranking.look()
    assert not ranking.look()
    for wanted in (first, second):
        scores = await ranking.score(request(0, 300, wanted))
        assert scores.model_id == wanted
        assert np.array_equal(scores.probability, alone(registry, request(0, 300), wanted).probability)
    assert (await ranking.score(request(0, 3, "neither"))).model_id == second
    ranking.stop()


async def test_a_model_that_does_not_load_leaves_the_old_one_serving_and_the_replica_says_why(registry: Registry) -> None:
    ranking = Ranking(str(registry.folder), stores, look_every_s=60)
    serving, other = registry.standing().serving, registry.standing().previous[0]
    registry.install(other, 2.0)
    (registry.folder_of(other) / bundles.METRICS).unlink()
    assert not ranking.look()
    assert (await ranking.score(request(0, 5))).model_id == serving
    assert "metrics.json: is missing" in (await ranking.standing()).problem
    (registry.folder / POINTER).write_text("{")
    assert not ranking.look()
    assert (await ranking.score(request(0, 5))).model_id == serving
    registry.folder.joinpath(POINTER).unlink()
    registry.install(serving, 3.0)
    assert ranking.look()
    assert (await ranking.standing()).problem == ""
    ranking.stop()


async def test_a_challenger_is_scored_beside_live_traffic_within_its_cost_and_nobody_gets_its_scores(registry: Registry) -> None:
    log, rule = MemoryShadowLog(), ShadowRule(cost_share=0.5, rows_per_s=0.0, burst_rows=600, sample_rows=100)
    ranking = Ranking(str(registry.folder), lambda: stores(log), rule=rule, look_every_s=60)
    serving, challenger = registry.standing().serving, registry.standing().previous[0]
    registry.challenge(challenger, 2.0)
    assert ranking.look()
    for seed in range(40):
        asked = request(seed, 300)
        assert np.array_equal((await ranking.score(asked)).probability, alone(registry, asked, serving).probability)
    standing = await ranking.standing()
    await ranking.check_health()  # the worker is through with what was there to do
    ranking.look()
    ranking.stop()
    rows = np.concatenate([frame["challenger"] for frame in log.frames])
    assert 0 < len(rows) <= rule.burst_rows + 60, "at most one user's rows more"
    assert all(set(frame["serving_id"]) == {serving} and set(frame["challenger_id"]) == {challenger} for frame in log.frames)
    assert standing.challenger_id == challenger
    assert min(standing.live_s, standing.shadow_s) > 0  # how one bounds the other: test_shadow.py


async def test_an_explanation_is_of_the_model_that_was_asked_for_and_of_the_rows_that_were(registry: Registry) -> None:
    ranking = Ranking(str(registry.folder), stores, look_every_s=60)
    for model_id in (registry.standing().serving, registry.standing().previous[0]):
        found = await ranking.explain(request(0, 20), model_id)
        assert found.model_id == model_id
        assert np.array_equal(found.probability, alone(registry, request(0, 20), model_id).probability)
    with pytest.raises(bundles.BundleError, match="no such model folder"):
        await ranking.explain(request(0, 2), "gone")
    ranking.stop()


async def test_what_losing_a_reader_costs_a_deployment_counts_in_every_model_that_serves_it(registry: Registry, tmp_path: Path) -> None:
    curve = Calibration(np.array([-1.0, 1.0]), np.array([-2.0, 0.5]))
    bundles.write(tmp_path / "risky", booster(2), curve, {}, bundles.Window(0.0, 1.0), 2.0, opt_out=OptOut(0.01))
    risky = registry.add(tmp_path / "risky")
    ranking = Ranking(str(registry.folder), stores, look_every_s=60, value=ValueRule(opt_out_cost=3.0))
    registry.install(risky, 2.0)
    assert ranking.look()
    scores = await ranking.score(request(0, 40))
    assert scores.model_id == risky
    assert scores.value == pytest.approx(scores.probability - 0.03, abs=1e-6)
    explained = await ranking.explain(request(0, 40), risky)
    assert np.array_equal(explained.value, scores.value)
    ranking.stop()
    watched = replace(bundles.load(registry.folder_of(risky), verified=True), rule=ValueRule(opt_out_cost=3.0))
    found = scores_of(watched, np.zeros((3, len(FEATURES)), np.float32))
    assert found[:, 1] == pytest.approx(found[:, 0] - 0.03, abs=1e-6), "what the guard watches is what is ranked by"


async def test_whichever_model_serves_predicts_with_the_threads_of_the_replica(registry: Registry) -> None:
    def threads() -> int:
        found = json.loads(ranking._models.held.serving.bundle.booster.save_config())
        return int(found["learner"]["generic_param"]["nthread"])

    ranking = Ranking(str(registry.folder), stores, threads=2, look_every_s=60)
    assert threads() == 2
    other = registry.standing().previous[0]
    registry.challenge(other, 2.0)
    assert ranking.look()
    registry.install(other, 3.0)
    assert ranking.look()
    assert (await ranking.standing()).model_id == other
    assert threads() == 2
    ranking.stop()


async def test_a_plain_model_folder_serves_without_a_registry(registry: Registry) -> None:
    model_id = registry.standing().serving
    ranking = Ranking(str(registry.folder_of(model_id)), stores)
    assert not ranking.look()
    assert (await ranking.score(request(0, 5))).model_id == model_id
