"""One notification per thing, from the commit to inbox and phone, on a real store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from budgets.ledger import used
from delivery.channels.base import Channel, Resources
from delivery.channels.in_app import InAppSettings
from delivery.dispatch import Dispatcher
from delivery.parts import Parts
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


@pytest.mark.parametrize("channel", [0, 2])
async def test_several_things_of_one_kind_are_told_as_one_notification(house: House, channel: int) -> None:
    for number in range(3):
        house.post(f"p{number}", kind="post", topics=["Gardening"], title=f"Post {number}")
    lead = Row("p0", channel=channel, value=0.9)
    await house.tell(lead, *(Row(f"p{n}", channel=channel, value=0.9 - n / 10, rides_with="p0") for n in (1, 2)))
    shown = house.inbox.latest("ann") if channel == 0 else [delivery.content for delivery in house.phone.sent]
    assert [(entry.title, entry.text) for entry in shown] == [("3 new posts in Gardening", "Post 0\nPost 1\nPost 2")]
    assert house.spent()[channel] == 1


async def test_a_deleted_item_leaves_messages_that_wait_and_digests_and_gives_units_back(house: House) -> None:
    for name in ("p0", "p1", "p2", "alone"):
        house.post(name, kind="post", title=name)
    rows = [Row("alone", channel=2, value=0.95), Row("p0", channel=2, value=0.9)]
    rows += [Row(name, channel=2, value=0.5, rides_with="p0") for name in ("p1", "p2")]
    house.rig.committer.commit([batch({"ann": rows})])
    house.items.delete(["p0", "alone"])
    await house.deliver()
    assert [(delivery.content.title, delivery.content.text) for delivery in house.phone.sent] == [("2 new posts", "p1\np2")]
    assert house.spent()[2] == 1
    states = {record.item_id: record.state for _, record in house.outbox.outcomes(0, "", 10)}
    assert states == {"alone": "cancelled", "p0": "accepted"}
