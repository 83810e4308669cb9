"""The kill switch stops a courier in the middle of a long backlog: within a second nothing more reaches a receiver."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis import Redis

from delivery.channels.webhook import WebhookSettings
from lake.meta import Meta
from scheduler.redis_stores import RedisStores
from tests.integration.waiting import until
from tidings.bench_courier import SHARDS, Load, courier, fill, people

BACKLOG = 6_000
SWITCHES = ("everything", "kind:post")
QUIET_S = 0.4
"""So long without a message, and with the switch as old as it may be, the courier has stopped."""
TRIES = 3
"""A machine that is busy with other things can hold up any single stop."""


class Receiver:
    """A webhook's receiver that remembers when each message came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        self.at.append(time.monotonic())
        return web.Response(status=204)

    async def count(self, more: int) -> None:
        """Wait until so many more messages have come."""
        wanted = len(self.at) + more
        await asyncio.to_thread(until, lambda: len(self.at) >= wanted, 60, "more messages")

    async def stopped_s(self, since: float) -> float:
        """Wait until nothing comes any more; returns how long after `since` the last message came."""
        await asyncio.to_thread(until, lambda: time.monotonic() - max(self.at[-1], since + 1.0) >= QUIET_S, 60, "quiet")
        return self.at[-1] - since


@asynccontextmanager
async def sending(client: Redis) -> AsyncIterator[tuple[RedisStores, Receiver]]:
    """A courier at work on a backlog, and its receiver."""
    stores, receiver = RedisStores(client, Meta(shards=SHARDS)), Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    async with TestServer(app) as server:
        settings = WebhookSettings(secret=SecretStr("whsec_" + base64.b64encode(b"0" * 24).decode()), allow_private=True)
        users = people(stores, 300, "webhook", str(server.make_url("/hook")))
        fill(stores, Load("webhook", BACKLOG, 300), users)
        runs, outbox, _ = courier(stores, settings)
        working = asyncio.create_task(runs.run())
        yield stores, receiver
        assert sum(each.total for each in outbox.backlog(range(SHARDS))) > 0, "the backlog was too short to be stopped"
        runs.stop()
        await working


async def test_whatever_is_switched_off_has_stopped_within_a_second(redis_client: Redis) -> None:
    async with sending(redis_client) as (stores, receiver):
        for name in SWITCHES:
            took_s = [await _stop(stores, receiver, name)]
            while took_s[-1] >= 1.0 and len(took_s) < TRIES:
                took_s.append(await _stop(stores, receiver, name))
            assert took_s[-1] < 1.0, f"{name} took {took_s} s"


async def _stop(stores: RedisStores, receiver: Receiver, name: str) -> float:
    await receiver.count(20)
    began = time.monotonic()
    await asyncio.to_thread(stores.switches.turn_off, name, "a test", stores.clock.now())
    took_s = await receiver.stopped_s(began)
    await asyncio.to_thread(stores.switches.turn_on, name)
    return took_s
