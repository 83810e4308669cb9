"""Messages, deliveries and a whole dispatcher in memory, for the tests of delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delivery.backoff import Backoff
from delivery.channels.base import Accepted, Answer, Channel, Content, Delivery, Traits
from delivery.dispatch import Dispatcher
from delivery.links import Links, LinkSettings
from delivery.outbox import MemoryOutbox, Outbox
from delivery.parts import Parts
from delivery.suppression import MemorySuppressionStore, Suppression
from delivery.templates import Templates, TemplateSettings
from delivery.turn import DispatchSettings
from lake.ids import Keys64, shard_of
from lake.items import MemoryItemStore
from lake.messages import Message
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, blank

NOW = 1_700_000_000.0
META = Meta(shards=1)
LINKS = Links(LinkSettings(("a secret that is long enough",), "https://t.example"))


def a_message(number: int = 1, /, **changes: Any) -> Message:
    """Return a granted message; everything about it can be changed."""
    values: dict[str, Any] = {
        "grant_id": f"{number:016x}",
        "user_id": f"u{number}",
        "item_id": "i1",
        "channel": "email",
        "entity": f"{number + 1000:016x}",
        "version": 0,
        "update": False,
        "decision_id": "d1",
        "lane": "scheduled",
        "source": "new_posts",
        "reason": "above_threshold",
        "model_id": "m1",
        "probability": 0.25,
        "value": 0.5,
        "threshold": 0.1,
        "granted_at": NOW - 10,
        "deliver_by": NOW + 3600,
    }
    return Message(**values | changes)


def a_delivery(message: Message | None = None, address: str = "ada@example.org", at: float = NOW, **content: str) -> Delivery:
    """Return a delivery with some content."""
    says = {
        "title": "A new room",
        "text": "Come in",
        "url": "https://t.example/i1",
        "why": "it is new in what you follow",
        "plain": "Come in\n",
        "html": "<p>Come in</p>",
        "unsubscribe_url": LINKS.unsubscribe("u1", "email", "1"),
    }
    return Delivery(message or a_message(), address, Content(**says | content), at)


@dataclass
class ScriptedChannel:
    """A channel that answers as it is told to, and remembers what it was asked to send."""

    name: str = "email"
    traits: Traits = Traits(batch=10, concurrency=2)
    answers: dict[str, Answer | BaseException] = field(default_factory=dict)
    sent: list[Delivery] = field(default_factory=list)
    closed: bool = False

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        answers = [self.answers.get(delivery.message.grant_id, Accepted("provider-1")) for delivery in deliveries]
        self.sent += deliveries
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def close(self) -> None:
        self.closed = True


@dataclass
class Refunds:
    """What was refunded."""

    given_back: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, users: Sequence[str], grants: Keys64) -> None:
        self.given_back += zip(users, np.asarray(grants).tolist(), strict=True)


@dataclass
class World:
    """Everything around a dispatcher, in memory."""

    channel: ScriptedChannel = field(default_factory=ScriptedChannel)
    channels: dict[str, Channel] = field(default_factory=dict)
    memory: MemoryOutbox = field(default_factory=MemoryOutbox)
    profiles: MemoryProfileStore = field(default_factory=MemoryProfileStore)
    items: MemoryItemStore = field(default_factory=MemoryItemStore)
    refunds: Refunds = field(default_factory=Refunds)
    settings: DispatchSettings = field(default_factory=lambda: DispatchSettings(backoff=Backoff(max_attempts=3)))
    meta: Meta = META
    is_off: set[str] = field(default_factory=set)
    stand_ins: dict[str, list[Channel]] = field(default_factory=dict)
    stopwatch: Callable[[], float] = lambda: 0.0

    def __post_init__(self) -> None:
        self.channels.setdefault(self.channel.name, self.channel)
        self.suppression = Suppression(MemorySuppressionStore(), self.profiles, self.meta)
        self.items.put([{"item_id": "i1", "created_at": NOW - 100, "title": "A new room", "kind": "room"}])

    def dispatcher(self, outbox: Outbox | None = None) -> Dispatcher:
        """Return a dispatcher of this world, of another outbox if given."""
        templates = Templates(TemplateSettings(), LINKS)
        stores = (outbox or self.memory, self.channels, self.profiles, self.items, self.suppression)
        parts = Parts(*stores, templates, self.refunds, self.meta, lambda: frozenset(self.is_off), self.stand_ins)
        return Dispatcher(parts, self.settings, self.stopwatch)

    def enqueue(self, *messages: Message) -> None:
        """Make the users known, give them addresses, and grant the messages."""
        users = [message.user_id for message in messages]
        self.profiles.put(users, blank(len(users)))
        for message in messages:
            self.profiles.put_addresses(message.user_id, {message.channel: f"{message.user_id}@example.org"})
            self.memory.add(shard_of(message.user_id, self.meta.shards), [message])

    def outcomes(self) -> dict[str, str]:
        """Return how each grant ended."""
        return {record.grant_id: record.state for _, record in self.memory.outcomes(0, "", 1000)}
