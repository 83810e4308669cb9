"""The controls as a deployment wires them: serve_app's own services on a real store, with rankers that do not answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from ray.exceptions import RayActorError
from redis import Redis

import serve_app
from gateway.api_keys import new_key
from gateway.app import create_app
from gateway.redis_api_keys import RedisApiKeys
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from tests.integration.waiting import early_in

USERS = [f"u{n}" for n in range(6)]


@pytest.fixture
async def gateway(redis_client: Redis, embedded_store: str, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryMetrics]]:
    """A client of the gateway, whose key may be critical four times a day and call twelve times an hour, and its metrics."""
    early_in(3600.0, 30.0)
    serve_app.stores_of.cache_clear()
    settings = serve_app.Settings(
        model="/none", redis_url=embedded_store, shards=4, history=str(tmp_path), rates={"read": "1000/hour"}, critical_per_day=2
    )
    ranker, metrics = MagicMock(), MemoryMetrics()
    ranker.score.remote.side_effect = RayActorError()
    services = serve_app.gateway_services(settings, {"Ranker": ranker}, metrics)
    services.profiles.put(USERS, blank(len(USERS)))
    now = services.clock.now()
    services.items.put([{"item_id": f"i{n}", "created_at": now - 60, "half_life_s": 600.0} for n in range(9)])
    key, token = new_key(("urgent", "urgent:critical", "read"), now)
    RedisApiKeys(redis_client).put(replace(key, critical_quota=4, rate="12/hour"))
    app = create_app(services)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t", headers=headers) as client:
        yield client, metrics
    app.state.desk.close()
    app.state.health.close()
    serve_app.stores_of.cache_clear()


async def post(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/urgent", json={"users": USERS} | body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def outcomes(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["disposition"], row["reason"]) for row in answer["results"]]


async def test_quota_rate_dry_run_and_fallback_work_together_as_they_are_deployed(gateway: tuple[httpx.AsyncClient, MemoryMetrics]) -> None:
    client, metrics = gateway
    dry = await post(client, item_id="i1", dry_run=True)
    assert dry["dry_run"]
    assert dry["fallback"] == "popularity"
    real = await post(client, item_id="i1")
    assert outcomes(real) == outcomes(dry) == [("send", "above_threshold")] * 6
    assert {row["score"] for row in real["results"]} == {0.05}

    rehearsed = await post(client, item_id="i2", critical=True, dry_run=True)
    critical = await post(client, item_id="i2", critical=True)
    assert outcomes(rehearsed) == outcomes(critical)
    assert sorted(outcomes(critical)) == [("ineligible", "critical_quota")] * 2 + [("send", "critical")] * 4
    assert set(outcomes(await post(client, item_id="i3", critical=True))) == {("ineligible", "critical_quota")}
    assert metrics.counters["tidings_critical_total", (("outcome", "sent"),)] == 4
    assert metrics.counters["tidings_critical_total", (("outcome", "refused"),)] == 8
    assert metrics.counters["tidings_fallback_rows_total", ()] == 12

    window = await client.post("/v1/windows/dry-run", json={"users": USERS})
    assert window.status_code == 200, window.text
    logged = (await client.get("/v1/decisions", params={"decision_id": dry["decision_id"]})).json()["decisions"]
    assert {(row["dry"], row["model_id"]) for row in logged} == {(True, "popularity")}

    codes = [(await client.get("/v1/decisions", params={"user_id": "u1"})).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
