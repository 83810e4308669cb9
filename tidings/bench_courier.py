"""`tidings bench courier`: messages per second from the outbox to a receiver, and what a long backlog takes of memory."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr

from delivery.channels.base import Accepted, Content, Delivery, Resources
from delivery.channels.email import EmailSettings
from delivery.channels.in_app import InAppSettings
from delivery.channels.registry import ChannelSettings, open_channels
from delivery.channels.webhook import WebhookSettings
from delivery.courier import Courier, CourierParts, CourierSettings
from delivery.dispatch import Dispatcher
from delivery.links import Links, LinkSettings
from delivery.parts import Parts
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from lake.embedded import EmbeddedStore
from lake.ids import shards_of
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from lake.switches import Watch
from scheduler.redis_stores import RedisStores
from tidings.bench_couriers import drain_by
from tidings.bench_drain import Drained, drain
from tidings.bench_receivers import HttpReceiver, SmtpReceiver, receiving

OUTCOMES = "tidings_outcomes_total"
CHANNELS = ("in_app", "webhook", "email")
MESSAGES = 50_000
BACKLOG = 1_000_000
"""A backlog that no memory should grow with."""
SHARDS = 16
ITEMS = 200
MESSAGES_PER_WRITE = 5_000
PEER_MESSAGES = 5_000
TEXT = "The new rose bed wants water before the heat comes back, and the gate stays shut after nine."

Step = Callable[[str], None]


@dataclass(frozen=True)
class Load:
    """What is delivered. `channel`: in_app, webhook or email. `users`: how many people the messages are spread over.

    `couriers`: how many deliver: one in this process, several in processes of their own.
    """

    channel: str = "in_app"
    messages: int = MESSAGES
    users: int = 20_000
    couriers: int = 1


def run(load: Load, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench courier --json`.

    Pace, processor time and memory: see Drained.figures; starting up is not in them. `peer_messages_per_s`: the same channel called with
    deliveries at hand, without outbox, screening, templates and outcomes. `store_mb`: what the store holds with the backlog in it.
    """
    with (
        way_out(load.channel) as way,
        tempfile.TemporaryDirectory(prefix="tidings-") as folder,
        EmbeddedStore(Path(folder)) as store,
    ):
        stores = RedisStores.open(store.url, Meta(shards=SHARDS))
        step("making users and items")
        users = people(stores, min(load.users, load.messages), load.channel, way.address)
        step(f"filling the outbox with {load.messages:,} messages")
        fill(stores, load, users)
        store_mb = round(stores.client.info("memory")["used_memory"] / 1e6)
        step("delivering")
        processes = {name: pid for name, pid in (("store", store.pid), ("receiver", way.pid)) if pid}
        drained, accepted = deliver(stores, store.url, way.settings, load.couriers, processes)
        figures = drained.figures()
        if accepted != load.messages:
            raise RuntimeError(f"{accepted} of {load.messages} messages were accepted: the bench measured something else than deliveries")
        step("the same channel alone, as the peer")
        peer = asyncio.run(alone(stores, way, load, users))
    return {
        "channel": load.channel,
        "messages": load.messages,
        "couriers": load.couriers,
        **figures,
        "store_mb": store_mb,
        "peer_name": "the channel alone with deliveries at hand",
        "peer_messages_per_s": round(peer),
        "ratio": round(figures["messages_per_s"] / peer, 3),
        "cores": os.cpu_count(),
    }


@dataclass(frozen=True)
class WayOut:
    """The channel's settings, and where it has a receiver of its own, everybody's address there and its process id."""

    settings: ChannelSettings
    address: str = ""
    pid: int = 0


@contextmanager
def way_out(channel: str) -> Iterator[WayOut]:
    """Start the receiver of a channel and yield the way to it; raises ValueError for a channel that the bench has no receiver for."""
    if channel == "in_app":
        yield WayOut(InAppSettings())
    elif channel == "webhook":
        secret = SecretStr("whsec_" + base64.b64encode(os.urandom(24)).decode())
        with receiving(HttpReceiver) as (port, pid):
            yield WayOut(WebhookSettings(secret=secret, allow_private=True), f"http://127.0.0.1:{port}/hook", pid)
    elif channel == "email":
        with receiving(SmtpReceiver) as (port, pid):
            yield WayOut(EmailSettings(host="127.0.0.1", port=port, sender="tidings@example.com", tls="never"), "reader@example.com", pid)
    else:
        raise ValueError(f"{channel!r} is no channel of this bench; choose {', '.join(CHANNELS)}")


def people(stores: RedisStores, count: int, channel: str, address: str) -> list[str]:
    """Put users and items into the stores; returns the users' ids."""
    users = [f"user-{number}" for number in range(count)]
    rows = blank(count)
    if address:
        rows["addressed"] |= np.uint32(1 << stores.meta.channel_codes([channel])[0])
    for start in range(0, count, MESSAGES_PER_WRITE):
        stores.profiles.put(users[start : start + MESSAGES_PER_WRITE], rows[start : start + MESSAGES_PER_WRITE])
    if address:
        for user in users:
            stores.profiles.put_addresses(user, {channel: address})
    now = stores.clock.now()
    stores.items.put(
        [
            {"item_id": f"item-{number}", "created_at": now, "title": f"News {number}", "text": TEXT, "kind": "post"}
            for number in range(ITEMS)
        ]
    )
    return users


def fill(stores: RedisStores, load: Load, users: list[str]) -> None:
    """Put granted messages into the outbox, as commits leave them."""
    now, shards, keys = stores.clock.now(), shards_of(users, SHARDS), stores.meta.keys
    for start in range(0, load.messages, MESSAGES_PER_WRITE):
        pipe = stores.client.pipeline(transaction=False)
        for number in range(start, min(start + MESSAGES_PER_WRITE, load.messages)):
            user = number % len(users)
            packed = _message(number, users[user], load.channel, now).pack()
            pipe.xadd(keys.of_shard(Keys.OUTBOX, int(shards[user])), {FIELD: packed})
        pipe.execute()


def deliver(stores: RedisStores, url: str, settings: ChannelSettings, couriers: int, processes: Mapping[str, int]) -> tuple[Drained, int]:
    """Drain the outbox by so many couriers; returns how it went and how many messages were accepted."""
    if couriers > 1:
        return asyncio.run(drain_by(couriers, partial(work, url, settings, -(-SHARDS // couriers)), stores, processes))
    runs, outbox, metrics = courier(stores, settings)
    return asyncio.run(drain(runs, outbox, range(SHARDS), processes)), accepted_of(metrics)


def work(url: str, settings: ChannelSettings, most_shards: int, number: int, told: Connection) -> None:
    """Be a courier of several in a process of its own: until `told` anything, then answer how many messages were accepted."""
    stores = RedisStores.open(url, Meta(shards=SHARDS))
    runs, _, metrics = courier(stores, settings, f"bench-{number}", most_shards)
    told.send(None)

    def stop_when_told() -> None:
        told.recv()
        runs.stop()

    threading.Thread(target=stop_when_told, daemon=True).start()
    asyncio.run(runs.run())
    told.send(accepted_of(metrics))


def accepted_of(metrics: MemoryMetrics) -> int:
    """Return how many messages were accepted."""
    return sum(int(count) for (name, tags), count in metrics.counters.items() if name == OUTCOMES and ("outcome", "accepted") in tags)


def courier(
    stores: RedisStores,
    settings: ChannelSettings,
    owner: str = "bench",
    most_shards: int | None = None,
    beside: Sequence[ChannelSettings] = (),
) -> tuple[Courier, RedisOutbox, MemoryMetrics]:
    """Return a courier as a deployment has one, its outbox, and where it counts outcomes; `beside`: further channels."""
    keys, metrics = stores.meta.keys, MemoryMetrics()
    outbox = RedisOutbox(stores.client, keys)
    links = Links(LinkSettings(base_url="http://127.0.0.1:8000", secrets=("a secret of the bench alone",)))
    parts = Parts(
        outbox=outbox,
        channels=open_channels([settings, *beside], Resources(inbox=RedisInbox(stores.client, keys))),
        profiles=stores.profiles,
        items=stores.items,
        suppression=Suppression(RedisSuppressionStore(stores.client, keys), stores.profiles, stores.meta),
        templates=Templates(TemplateSettings(), links),
        refund=stores.ledger.refund,
        meta=stores.meta,
        off=Watch(stores.switches),
    )
    runs = CourierParts(Dispatcher(parts), outbox, stores.leases, stores.clock, metrics, keys)
    return Courier(runs, owner, CourierSettings(most_shards=most_shards)), outbox, metrics


async def alone(stores: RedisStores, way: WayOut, load: Load, users: list[str]) -> float:
    """Return the messages per second of the channel by itself, with rendered deliveries at hand."""
    channel = open_channels([way.settings], Resources(inbox=RedisInbox(stores.client, stores.meta.keys)))[load.channel]
    now, count = stores.clock.now(), min(PEER_MESSAGES, load.messages)
    content = Content("News", TEXT, "", "because", TEXT, f"<p>{TEXT}</p>", "http://127.0.0.1:8000/unsubscribe/bench")
    deliveries = [
        Delivery(_message(load.messages + number, users[number % len(users)], load.channel, now), way.address, content, now)
        for number in range(count)
    ]
    turns = asyncio.Semaphore(channel.traits.concurrency)

    async def turn(some: list[Delivery]) -> int:
        async with turns:
            return sum(isinstance(answer, Accepted) for answer in await channel.send(some))

    size, began = channel.traits.batch, time.perf_counter()
    taken = sum(await asyncio.gather(*(turn(deliveries[start : start + size]) for start in range(0, count, size))))
    took_s = time.perf_counter() - began
    await channel.close()
    if taken != count:
        raise RuntimeError(f"the channel alone delivered {taken} of {count} messages")
    return count / took_s


def _message(number: int, user: str, channel: str, now: float) -> Message:
    return Message(
        grant_id=f"{number + 1:016x}",
        user_id=user,
        item_id=f"item-{number % ITEMS}",
        channel=channel,
        entity=f"{number + 1:016x}",
        version=0,
        update=False,
        decision_id="bench",
        lane="scheduled",
        source="new_posts",
        reason="above_threshold",
        model_id="bench",
        probability=0.5,
        value=0.5,
        threshold=0.1,
        granted_at=now,
        deliver_by=float("inf"),
    )
