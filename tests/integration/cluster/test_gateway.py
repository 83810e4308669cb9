"""The gateway behind Serve's proxy, with its keys and idempotency records in a real store and a lane in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from gateway.api_keys import new_key
from gateway.limits import Limits
from gateway.ray_gateway import Gateway
from gateway.redis_api_keys import RedisApiKeys
from gateway.redis_fanout import RedisFanout
from gateway.redis_faults import STORE_AWAY
from gateway.redis_idempotency import RedisIdempotency
from gateway.services import Services
from lake.embedded import EmbeddedStore
from lake.metrics import Metrics
from lake.redis_clock import RedisClock
from lake.redis_store import connect
from scheduler.lanes import UrgentRequest, UrgentResult
from tests.stores import short_folder
from tests.unit.gateway.conftest import META, World
from tests.unit.gateway.problems import problem_of

pytestmark = pytest.mark.timeout(600)  # starting Ray takes a minute on a busy machine

PORT = 18231
TRIES = 5
"""A machine that stands still between any two requests lets none of them meet."""
BASE = f"http://127.0.0.1:{PORT}"
BODY = {"item_id": "i1", "users": ["u1", "u2"], "channels": ["push"]}


class CountingLane:
    """A lane that says in every row how many requests were decided together."""

    def __init__(self, world: World) -> None:
        self._lane = world.lane
        self._busy = threading.Lock()

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        with self._busy:
            results = self._lane.decide(requests, now)
        return [UrgentResult(**result.__dict__ | {"score": [float(len(requests))] * len(result.user_id)}) for result in results]

    def audience(self, topic: str, limit: int) -> list[str]:
        return self._lane.audience(topic, limit)

    def follower_pages(self, topic: str) -> Iterator[list[str]]:
        return self._lane.follower_pages(topic)


class Assemble:
    """Makes the services in the replica."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder

    def __call__(self, handles: Mapping[str, Any], metrics: Metrics) -> Services:
        assert not handles
        client, world = connect(self._url), World(self._folder)
        return world.services(
            clock=RedisClock(client),
            lane=CountingLane(world),
            api_keys=RedisApiKeys(client),
            idempotency=RedisIdempotency(client, META.keys),
            fanout=RedisFanout(client),
            metrics=metrics,
            checks={"store": client.ping},
            away_errors=STORE_AWAY,
        )


@pytest.fixture(scope="module")
def gateway_store() -> Iterator[EmbeddedStore]:
    with short_folder() as folder, EmbeddedStore(folder) as store:
        yield store


@pytest.fixture(scope="module")
def token(gateway_store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    client = connect(gateway_store.url)
    key, token = new_key(("urgent", "users", "read"), RedisClock(client).now())
    RedisApiKeys(client).put(key)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(
        Gateway.bind(Assemble(gateway_store.url, tmp_path_factory.mktemp("history")), {}, Limits(batch_wait_s=0.02, pending_wait_s=60.0))
    )
    yield token
    shut_down: Callable[[], None] = serve.shutdown
    shut_down()
    ray.shutdown()
    with warnings.catch_warnings():  # Ray leaves the processes it stopped unwaited for
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def _post(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await client.post("/v1/urgent", json=body, headers=headers)


async def test_requests_at_once_are_decided_together_and_answered_apart(token: str) -> None:
    async with httpx.AsyncClient(base_url=BASE, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        for _ in range(TRIES):
            answers = await asyncio.gather(*(_post(client, BODY | {"users": [f"a{i}"]}) for i in range(40)))
            rows = [answer.json()["results"][0] for answer in answers]
            assert [row["user_id"] for row in rows] == [f"a{i}" for i in range(40)]
            assert len({answer.json()["decision_id"] for answer in answers}) == 40
            if max(row["score"] for row in rows) > 1:
                return
    pytest.fail("no two requests were decided together")


async def test_a_large_request_goes_past_the_batcher(token: str) -> None:
    async with httpx.AsyncClient(base_url=BASE, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        large = BODY | {"users": [f"b{i}" for i in range(600)]}
        answers = await asyncio.gather(_post(client, large), *(_post(client, BODY) for _ in range(10)))
    assert {row["score"] for row in answers[0].json()["results"]} == {1.0}


async def test_fifty_requests_at_once_with_one_key_get_one_answer(token: str) -> None:
    async with httpx.AsyncClient(base_url=BASE, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        answers = await asyncio.gather(*(_post(client, BODY | {"users": ["c"]}, **{"Idempotency-Key": "once"}) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["results"][0]["disposition"] == "send"


async def test_bad_input_is_refused_behind_the_proxy_too(token: str) -> None:
    async with httpx.AsyncClient(base_url=BASE, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        problem_of(await client.post("/v1/urgent", content=b" " * (2 << 20)), 413)
        problem_of(await _post(client, BODY | {"users": ["u"] * 10_001}), 422)
        problem_of(await _post(client, BODY | {"users": ["u\x00"]}), 422)
        problem_of(await _post(client, BODY, Authorization="Bearer nonsense"), 401)
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_without_its_store_it_answers_503_and_when_to_come_back(token: str, gateway_store: EmbeddedStore) -> None:
    gateway_store.stop()
    async with httpx.AsyncClient(base_url=BASE, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        answer = await _post(client, BODY)
        health = await client.get("/healthz")
    for away in (answer, health):
        problem_of(away, 503)
        assert int(away.headers["retry-after"]) >= 1
