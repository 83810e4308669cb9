"""From a granted message in a real store to a real receiver, with couriers that die on the way."""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis import Redis

from delivery.channels.base import Answer, Channel, Delivery, Resources
from delivery.channels.in_app import InAppSettings
from delivery.channels.webhook import Webhook, WebhookSettings
from delivery.courier import Courier, CourierParts
from delivery.dispatch import Dispatcher
from delivery.outbox import Backlog, Entry
from delivery.parts import Parts
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from delivery.turn import DispatchSettings
from lake.clock import HeldClock
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from scheduler.lease import MemoryLeases
from tests.integration.waiting import LONG_S
from tests.stores import undaunted
from tests.unit.delivery.examples import LINKS, NOW, Refunds, a_message

META = Meta(shards=1)
IMPATIENT = DispatchSettings(abandoned_after_s=0.0)
SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes of it!").decode()


class DiesAfterSending(Webhook):
    """A webhook channel whose process is killed when the receiver has the message and nobody here knows."""

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        await super().send(deliveries)
        os._exit(9)


class DiesBeforeMarking(RedisOutbox):
    """An outbox whose process is killed when messages have been read and before an attempt is marked."""

    def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        os._exit(9)


def dispatcher(
    client: Redis,
    channels: dict[str, Channel],
    outbox: type[RedisOutbox] = RedisOutbox,
    settings: DispatchSettings = IMPATIENT,
) -> Dispatcher:
    keys = META.keys
    profiles = RedisProfileStore(client, keys)
    parts = Parts(
        outbox=outbox(client, keys),
        channels=channels,
        profiles=profiles,
        items=RedisItemStore(client, keys),
        suppression=Suppression(RedisSuppressionStore(client, keys), profiles, META),
        templates=Templates(TemplateSettings(), LINKS),
        refund=Refunds(),
        meta=META,
    )
    return Dispatcher(parts, settings)


def webhook(kind: type[Webhook] = Webhook) -> Webhook:
    return kind(WebhookSettings(secret=SecretStr(SECRET), allow_private=True, timeout_s=LONG_S))


def grant(client: Redis, messages: Sequence[Message], addresses: dict[str, str]) -> None:
    users = [message.user_id for message in messages]
    profiles = RedisProfileStore(client, META.keys)
    profiles.put(users, blank(len(users)))
    for user in users:
        profiles.put_addresses(user, addresses)
    RedisItemStore(client, META.keys).put([{"item_id": "i1", "created_at": NOW, "title": "A new room"}])
    pipe = client.pipeline(transaction=False)
    for message in messages:
        pipe.xadd(META.keys.of_shard(Keys.OUTBOX, 0), {FIELD: message.pack()})
    pipe.execute()


def outcomes(client: Redis) -> dict[str, str]:
    return {record.grant_id: record.state for _, record in RedisOutbox(client, META.keys).outcomes(0, "", 10_000)}


@dataclass
class Receiver:
    """Counts what arrives."""

    ids: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.ids.append(request.headers["webhook-id"])
        return web.Response()


@asynccontextmanager
async def served(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/hook"))


def doomed(url: str, outbox: type[RedisOutbox]) -> None:
    """Drain in a process of its own, until it dies."""
    with undaunted(url) as client:
        asyncio.run(dispatcher(client, {"webhook": webhook(DiesAfterSending)}, outbox).drain(0, "doomed", NOW))


async def run_doomed(url: str, outbox: type[RedisOutbox]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=doomed, args=(url, outbox))
    process.start()
    await asyncio.to_thread(process.join, 240)
    assert process.exitcode == 9


async def test_a_courier_killed_between_the_provider_and_the_acknowledgement_leaves_it_unknown(
    redis_client: Redis, embedded_store: str
) -> None:
    receiver = Receiver()
    message = a_message(channel="webhook")
    async with served(receiver) as url:
        grant(redis_client, [message], {"webhook": url})
        await run_doomed(embedded_store, RedisOutbox)
        assert receiver.ids == [message.grant_id]
        report = await dispatcher(redis_client, {"webhook": webhook()}).drain(0, "next", NOW)
    assert report.count("unknown") == 1
    assert receiver.ids == [message.grant_id]
    assert outcomes(redis_client) == {message.grant_id: "unknown"}


async def test_a_courier_killed_before_the_attempt_loses_nothing(redis_client: Redis, embedded_store: str) -> None:
    receiver = Receiver()
    message = a_message(channel="webhook")
    async with served(receiver) as url:
        grant(redis_client, [message], {"webhook": url})
        await run_doomed(embedded_store, DiesBeforeMarking)
        assert receiver.ids == []
        channel = webhook()
        await dispatcher(redis_client, {"webhook": channel}).drain(0, "next", NOW)
        await channel.close()
    assert receiver.ids == [message.grant_id]
    assert outcomes(redis_client) == {message.grant_id: "accepted"}


async def test_a_courier_delivers_to_inboxes_from_the_store(redis_client: Redis) -> None:
    messages = [a_message(number, channel="in_app") for number in range(1, 1201)]
    grant(redis_client, messages, {})
    inbox = RedisInbox(redis_client, META.keys)
    channels: dict[str, Channel] = {"in_app": InAppSettings().open(Resources(inbox))}
    parts = CourierParts(
        dispatcher=dispatcher(redis_client, channels),
        outbox=RedisOutbox(redis_client, META.keys),
        leases=MemoryLeases(),
        clock=HeldClock(NOW),
        metrics=MemoryMetrics(),
        keys=META.keys,
    )
    courier = Courier(parts, "a")
    for _ in range(3):
        await courier.round()
        await courier.settled()
    assert set(outcomes(redis_client).values()) == {"accepted"}
    assert RedisOutbox(redis_client, META.keys).backlog([0]) == [Backlog()]
    assert [entry.title for entry in inbox.latest("u7")] == ["A new room"]


async def test_a_store_that_goes_away_while_draining_loses_nothing(redis_client: Redis) -> None:
    grant(redis_client, [a_message(channel="in_app")], {})
    channels: dict[str, Channel] = {"in_app": InAppSettings().open(Resources(RedisInbox(redis_client, META.keys)))}
    drained = dispatcher(redis_client, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedisInbox, "add", _no_store)
        with pytest.raises(BaseExceptionGroup):
            await drained.drain(0, "a", NOW)
    await drained.drain(0, "b", NOW)
    assert outcomes(redis_client) == {a_message().grant_id: "accepted"}


def _no_store(*_: object) -> None:
    raise ConnectionError("the store is away")
