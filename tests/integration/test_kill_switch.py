"""The kill switch stops a courier in the middle of a long backlog, and the urgent lane: within a second nothing more is sent or decided."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis import Redis

from delivery.channels.webhook import WebhookSettings
from lake.meta import Meta
from scheduler.lanes import UrgentLane, UrgentRequest
from scheduler.redis_stores import RedisStores
from tests.integration.waiting import until
from tidings.bench_courier import SHARDS, Load, courier, fill, people
from tidings.bench_outage import urgent_lane

BACKLOG = 18_000
SWITCHES = ("everything", "lane:scheduled", "kind:post", "channel:webhook")
DECIDING = ("everything", "lane:urgent", "kind:post", "channel:in_app")
QUIET_S = 0.4
"""So long without a message, and with the switch as old as it may be, the courier has stopped."""
TRIES = 6
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


@pytest.mark.parametrize("name", DECIDING)
def test_within_a_second_the_urgent_lane_decides_nothing_more_of_what_is_switched_off_and_goes_on_when_it_is_on(
    redis_client: Redis, name: str
) -> None:
    stores = RedisStores(redis_client, Meta(shards=SHARDS))
    users = people(stores, 20, "in_app", "")
    lane = urgent_lane(stores)
    assert _decided(lane, stores, users) == {("send", "above_threshold")}
    took_s = [_until_stopped(lane, stores, users, name)]
    while took_s[-1] >= 1.0 and len(took_s) < TRIES:
        took_s.append(_until_stopped(lane, stores, users, name))
    assert took_s[-1] < 1.0, f"{name} took {took_s} s"


def _until_stopped(lane: UrgentLane, stores: RedisStores, users: list[str], name: str) -> float:
    """Return after how long nothing was decided any more; the lane is on again at the end."""
    began = time.monotonic()
    stores.switches.turn_off(name, "a test", stores.clock.now())
    until(lambda: _decided(lane, stores, users) == {("suppressed", "switched_off")}, 30, "nothing is decided")
    took_s = time.monotonic() - began
    stores.switches.turn_on(name)
    until(lambda: _decided(lane, stores, users) == {("send", "above_threshold")}, 30, "the lane goes on")
    return took_s


def _decided(lane: UrgentLane, stores: RedisStores, users: list[str]) -> set[tuple[str, str]]:
    """Post something new; returns how it was decided and why."""
    item_id = secrets.token_hex(4)
    item = {"item_id": item_id, "title": "News", "kind": "post"}
    (result,) = lane.decide([UrgentRequest(item, item_id, users, ("in_app",), False, "key", item_id)], stores.clock.now())
    return set(zip(result.disposition, result.reason, strict=True))
