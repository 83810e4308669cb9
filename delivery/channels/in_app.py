"""The in-app inbox as a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from delivery.channels.base import Accepted, Answer, Delivery, Resources, Settings, Traits
from delivery.inbox import Inbox, InboxEntry


class InAppSettings(Settings):
    """Settings of the inbox channel."""

    kind: Literal["in_app"] = "in_app"
    name: str = "in_app"

    def open(self, resources: Resources) -> InApp:
        """Return the channel."""
        return InApp(self.name, resources.inbox)


@dataclass(frozen=True)
class InApp:
    """Puts messages into inboxes. A grant is added once however often it is sent, so a retry is always safe."""

    name: str
    inbox: Inbox
    traits: Traits = Traits(address="unused", needs_bodies=False, needs_unsubscribe=False, idempotent=True, local=True, batch=500)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        await asyncio.to_thread(self.inbox.add, [_entry(delivery) for delivery in deliveries])
        return [Accepted(delivery.message.grant_id) for delivery in deliveries]

    async def close(self) -> None:
        """See Channel."""


def _entry(delivery: Delivery) -> InboxEntry:
    message, content = delivery.message, delivery.content
    first, *others = delivery.told or (message.item_id,)
    return InboxEntry(
        entry_id="",
        user_id=message.user_id,
        grant_id=message.grant_id,
        item_id=first,
        entity=message.entity,
        version=message.version,
        title=content.title,
        text=content.text,
        url=content.url,
        why=content.why,
        at=delivery.at,
        others=tuple(others),
    )
