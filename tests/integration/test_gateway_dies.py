"""A gateway killed between its commit and its answer: who asks again with the same key gets one set of grants."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from redis import Redis

import serve_app
from delivery.redis_outbox import RedisOutbox
from gateway.api_keys import new_key
from gateway.idempotency import LEASE_S
from gateway.redis_api_keys import RedisApiKeys
from lake.clock import HeldClock
from lake.keys import Keys
from lake.profiles import blank
from tests.integration.dying_gateway import post, services

USERS = [f"u{number}" for number in range(6)]
BODY = json.dumps({"item_id": "i1", "users": USERS, "channels": ["in_app"]})


async def test_who_asks_again_after_a_gateway_died_gets_the_grants_that_were_made_and_no_others(
    redis_client: Redis, embedded_store: str, tmp_path: Path
) -> None:
    serve_app.stores_of.cache_clear()
    parts = services(embedded_store, str(tmp_path))
    now, outbox = parts.clock.now(), RedisOutbox(redis_client, Keys(4))
    parts.profiles.put(USERS, blank(len(USERS)))
    parts.items.put([{"item_id": "i1", "created_at": now - 60, "half_life_s": 600.0}])
    key, token = new_key(("urgent",), now)
    RedisApiKeys(redis_client).put(key)

    command = (sys.executable, "-m", "tests.integration.dying_gateway", embedded_store, str(tmp_path), token, BODY)
    dying = await asyncio.create_subprocess_exec(*command)
    assert await asyncio.wait_for(dying.wait(), 100) == -signal.SIGKILL
    granted = sorted(message.grant_id for shard in range(4) for message in outbox.waiting(shard))
    assert len(granted) == len(USERS), "it was to die after its commit"

    later = replace(parts, clock=HeldClock(parts.clock.now() + LEASE_S + 1))
    first, again = [await post(later, token, BODY.encode()) for _ in range(2)]
    assert first.status_code == 202, first.text
    assert [row["disposition"] for row in first.json()["results"]] == ["send"] * len(USERS)
    assert again.content == first.content
    assert sorted(message.grant_id for shard in range(4) for message in outbox.waiting(shard)) == granted
    serve_app.stores_of.cache_clear()
