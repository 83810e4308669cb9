"""One notification per thing, from the commit to inbox and phone, on a real store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from budgets.ledger import used
from delivery.channels.base import Channel, Resources
from delivery.channels.in_app import InAppSettings
from delivery.dispatch import Dispatcher, Parts
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from lake.meta import Meta
from lake.profiles import blank
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from tests.batches import NOW, Row, batch
from tests.commit_rig import Rig, redis_rig
from tests.unit.delivery.examples import LINKS, ScriptedChannel

META = Meta(shards=1)


@dataclass
class House:
    """A commit, its outbox, and a courier to the inbox and to a phone that remembers what it was sent."""

    client: Redis
    phone: ScriptedChannel = field(default_factory=lambda: ScriptedChannel("push"))

    def __post_init__(self) -> None:
        self.rig: Rig = redis_rig(META, self.client)
        self.items, self.profiles = RedisItemStore(self.client, META.keys), RedisProfileStore(self.client, META.keys)
        self.inbox, self.outbox = RedisInbox(self.client, META.keys), RedisOutbox(self.client, META.keys)
        self.profiles.put(["ann"], blank(1))
        self.profiles.put_addresses("ann", {"push": "token"})

    def post(self, item_id: str, **more: Any) -> None:
        self.items.put([{"item_id": item_id, "created_at": NOW, "title": "Jazz after midnight", **more}])

    async def tell(self, *rows: Row) -> list[int]:
        """Commit rows for ann and deliver what they grant; return their final dispositions."""
        result = self.rig.committer.commit([batch({"ann": rows})])[0]
        await self.deliver()
        return [int(code) for code in result.disposition]

    async def deliver(self) -> None:
        channels: dict[str, Channel] = {"in_app": InAppSettings().open(Resources(self.inbox)), "push": self.phone}
        parts = Parts(
            outbox=self.outbox,
            channels=channels,
            profiles=self.profiles,
            items=self.items,
            suppression=Suppression(RedisSuppressionStore(self.client, META.keys), self.profiles, META),
            templates=Templates(TemplateSettings(), LINKS),
            refund=self.rig.ledger.refund,
            meta=META,
        )
        await Dispatcher(parts).drain(0, "courier", NOW)

    def spent(self) -> list[int]:
        return [int(units) for units in used(self.rig.ledger.read(["ann"]), 1, 3, NOW)[0]]


@pytest.fixture
def house(redis_client: Redis) -> House:
    return House(redis_client)


@pytest.mark.parametrize("channel", [0, 2])
async def test_who_comes_later_updates_the_unopened_notification_in_its_place_and_spends_nothing(house: House, channel: int) -> None:
    for version, author in enumerate(["Ella", "bob", "cid", "dee"]):
        house.post(f"room-{version}", entity_id="room", version=version, author_id=author, kind="room")
        await house.tell(Row(f"room-{version}", channel=channel, entity="room", version=version))
    shown = [entry.title for entry in house.inbox.latest("ann")] if channel == 0 else [house.phone.sent[-1].content.title]
    assert shown == ["dee and 3 others are talking: Jazz after midnight"]
    assert len({delivery.message.entity for delivery in house.phone.sent}) == channel // 2
    assert house.spent()[channel] == sum(house.spent()) == 1
