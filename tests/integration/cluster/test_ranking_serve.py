"""The ranker as a Serve replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from lake.items import ItemTable, MemoryItemStore
from ranking import bundle as bundles
from ranking.ray_ranker import Ranker, Ranking, Stores
from ranking.registry import Registry
from ranking.scorer import Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import write_bundle

AT = 1_700_000_000.0


def stores() -> Stores:
    items = MemoryItemStore()
    items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": "u1", "topics": ["a"]} for i in range(5)])
    features = MemoryFeatureStore()
    features.record_engagements(["i1", "i2"], ["u1", "u2"], [AT - 60, AT - 50])
    return Stores(features, items)


def request(seed: int, rows: int) -> ScoreRequest:
    random = np.random.default_rng(seed)
    user, item = random.integers(0, 9, rows).astype(np.int32), random.integers(0, 7, rows).astype(np.int32)
    users, items = [f"u{seed}-{i}" for i in range(9)], [f"i{i}" for i in random.permutation(7)]
    return ScoreRequest(users, items, user, item, np.zeros(rows, np.uint8), ("in_app",), AT + seed)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "model")


def expected(model: Path, asked: ScoreRequest) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    there = stores()
    scorer = Scorer(bundles.load(model, verified=True), there.features, ItemTable(there.items))
    scores = scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, float(asked.at))
    return scores.probability


@pytest.fixture
def registry(model: Path, tmp_path: Path) -> Registry:
    """A registry whose model is `model`, with another that has not served."""
    registry = Registry(tmp_path / "models")
    registry.install(registry.add(model), 1.0)
    registry.add(write_bundle(tmp_path / "other", 1))
    return registry


@pytest.fixture
def handle(registry: Registry) -> Iterator[DeploymentHandle[Ranking]]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    app = Ranker.options(num_replicas=1, ray_actor_options={"num_cpus": 0.1}).bind(str(registry.folder), stores)
    try:
        yield serve.run(app, name="ranker", route_prefix=None)
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.mark.timeout(600)
def test_a_replica_gives_every_caller_the_scores_of_its_own_rows_also_while_it_changes_models(
    handle: DeploymentHandle[Ranking], model: Path, registry: Registry
) -> None:
    asked = [request(seed, rows) for seed, rows in enumerate([5, 3000, 55, 1, 0, 700])]
    answers = [handle.score.remote(one, is_urgent=len(one) < 100) for one in asked]
    for one, answer in zip(asked, answers, strict=True):
        scores = answer.result(timeout_s=60)
        assert np.array_equal(scores.probability, expected(model, one))
        assert len(scores.known_item) == 7
    first = registry.standing().serving
    other = next(entry.model_id for entry in registry.entries() if entry.model_id != first)
    by_model = {name: [expected(registry.folder_of(name), one) for one in asked] for name in (first, other)}
    registry.install(other, 2.0)
    seen: list[str] = []
    while not seen or set(seen[-len(asked) :]) != {other}:
        for place, answer in enumerate([handle.score.remote(one, is_urgent=len(one) < 100) for one in asked]):
            scores = answer.result(timeout_s=60)
            seen.append(scores.model_id)
            assert np.array_equal(scores.probability, by_model[scores.model_id][place])
    assert seen[0] == first


async def test_urgent_requests_overtake_a_window_that_came_first(model: Path) -> None:
    ranking = Ranking(str(model), stores)
    ranking._scorer.chunk_rows = 50
    done: list[str] = []

    async def ask(name: str, one: ScoreRequest, *, is_urgent: bool) -> None:
        await ranking.score(one, is_urgent)
        done.append(name)

    window = asyncio.create_task(ask("window", request(0, 20_000), is_urgent=False))
    await asyncio.sleep(0)
    await asyncio.gather(*(ask(f"urgent {i}", request(i, 30), is_urgent=True) for i in range(5)))
    assert "window" not in done
    await window
    assert done[-1] == "window"


async def test_a_store_that_fails_fails_the_request_and_the_health_check_but_not_the_next_request(model: Path) -> None:
    there = stores()
    ranking = Ranking(str(model), lambda: there)
    await ranking.check_health()
    get = there.features.get

    def broken(*_: object) -> None:
        raise ConnectionError("the store is away")

    there.features.get = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError, match="away"):
        await ranking.score(request(0, 5), True)
    with pytest.raises(ConnectionError, match="away"):
        await ranking.check_health()
    there.features.get = get  # type: ignore[method-assign]
    scores = await ranking.score(request(0, 5), True)
    assert np.array_equal(scores.probability, expected(model, request(0, 5)))
    assert await ranking.model_id() == scores.model_id
