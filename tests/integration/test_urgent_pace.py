"""While a channel's provider is silent or refuses, urgent decisions keep coming and what they grant elsewhere is delivered as ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from redis import Redis

from delivery.breaker import BreakerSettings
from delivery.channels.base import Accepted, Answer, Delivery, Resources, Traits, Transient
from delivery.channels.in_app import InAppSettings
from delivery.courier import Courier, CourierParts, CourierSettings
from delivery.dispatch import Dispatcher
from delivery.parts import Parts
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from delivery.turn import DispatchSettings
from lake.clock import HeldClock
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from scheduler.lanes import UrgentRequest
from scheduler.redis_stores import RedisStores
from tests.integration.waiting import LONG_S, until
from tests.unit.delivery.examples import LINKS
from tidings.bench_courier import Load, fill, people
from tidings.bench_outage import urgent_lane

META = Meta(shards=16)
EMAILS, PEOPLE, REQUESTS, AUDIENCE = 300, 40, 12, 8
WAVE, WAVES, SHARDS_AT_ONCE = 2, 3, 2
BREAKER = BreakerSettings(rest_s=30.0)


@dataclass
class Email:
    """E-mail whose provider `answers`, or else `refuses`, or else is silent."""

    answers: bool = False
    refuses: bool = False
    name: str = "email"
    traits: Traits = Traits(batch=1, concurrency=WAVE)
    asked: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        self.asked += len(deliveries)
        if self.refuses:
            return [Transient("no connection", down=True) for _ in deliveries]
        if not self.answers:
            await self.over.wait()
        return [Accepted() for _ in deliveries]

    async def close(self) -> None:
        """Nothing to close."""


class System:
    """The urgent lane, an outbox with a backlog of e-mails, and a courier, on one real store."""

    def __init__(self, client: Redis, email: Email) -> None:
        self.stores, self.email = RedisStores(client, META), email
        self.users = people(self.stores, PEOPLE, "email", "reader@example.org")
        fill(self.stores, Load("email", EMAILS, PEOPLE), self.users)
        self.clock = HeldClock(self.stores.clock.now())
        self.lane = urgent_lane(self.stores)
        self.outbox, self.inbox = RedisOutbox(client, META.keys), RedisInbox(client, META.keys)
        self.dispatcher = Dispatcher(
            Parts(
                outbox=self.outbox,
                channels={"email": email, "in_app": InAppSettings().open(Resources(self.inbox))},
                profiles=self.stores.profiles,
                items=self.stores.items,
                suppression=Suppression(RedisSuppressionStore(client, META.keys), self.stores.profiles, META),
                templates=Templates(TemplateSettings(), LINKS),
                refund=self.stores.ledger.refund,
                meta=META,
            ),
            DispatchSettings(patience_s=0.05, waves=WAVES, breaker=BREAKER),
        )
        parts = CourierParts(self.dispatcher, self.outbox, self.stores.leases, self.clock, MemoryMetrics(), META.keys)
        self.courier = Courier(parts, "courier", CourierSettings(shards_at_once=SHARDS_AT_ONCE))

    def decide(self, number: int) -> Counter[str]:
        """Post an urgent item for some of the people; returns how it was decided."""
        name = f"urgent-{number}"
        audience = [self.users[(number * AUDIENCE + place) % PEOPLE] for place in range(AUDIENCE)]
        asked = UrgentRequest({"item_id": name, "title": name}, name, audience, ("in_app",), False, "key", name)
        return Counter(self.lane.decide([asked], self.clock.now())[0].disposition)

    def delivered(self, number: int) -> int:
        """Return in how many inboxes an urgent item is."""
        return sum(entry.item_id == f"urgent-{number}" for user in self.users for entry in self.inbox.latest(user))

    def rests(self) -> bool:
        """Return whether every message waits for a provider that is down, so that it is asked no more."""
        return all(each.total == each.retrying for each in self.outbox.backlog(range(META.shards)))

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Have the courier at work; at the end the provider answers, and all that is under way ends."""
        working = asyncio.create_task(self.courier.run())
        await asyncio.to_thread(until, lambda: self.email.asked > 0, LONG_S, "e-mail is asked")
        yield
        self.email.answers = True
        self.email.over.set()
        self.courier.stop()
        await working

    async def tell(self, number: int) -> None:
        """Post an urgent item, and return when it is in the inboxes of all whom it was for."""
        assert self.decide(number) == {"send": AUDIENCE}
        await asyncio.to_thread(until, lambda: self.delivered(number) == AUDIENCE, LONG_S, f"request {number} is delivered")


@pytest.mark.parametrize("refuses", [False, True], ids=["is silent", "refuses"])
async def test_urgent_items_are_decided_and_reach_inboxes_while_e_mail(redis_client: Redis, refuses: bool) -> None:
    email = Email(refuses=refuses)
    system = System(redis_client, email)
    async with system.delivering():
        for number in range(REQUESTS):
            await system.tell(number)
        left = sum(each.total for each in system.outbox.backlog(range(META.shards)))
        assert left > EMAILS * 0.9, "e-mail was not down"
        before_it_rests = BREAKER.failures - 1
        assert email.asked <= before_it_rests + WAVE * WAVES  # as many waves as there may be were under way at the last failure


async def test_who_tries_a_provider_after_its_rest_holds_up_nobody_else(redis_client: Redis) -> None:
    system = System(redis_client, Email(refuses=True))
    async with system.delivering():
        await asyncio.to_thread(until, system.rests, LONG_S, "e-mail rests and nothing is under way")
        asked = system.email.asked
        system.email.refuses = False
        system.clock.at += 31
        await asyncio.to_thread(until, lambda: system.email.asked > asked, LONG_S, "somebody tries")
        for number in range(PEOPLE // AUDIENCE):  # among them whoever shares a shard with the message that tries
            await system.tell(1 + number)
        assert system.email.asked == asked + 1
