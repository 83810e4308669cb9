"""The courier as a Serve deployment: it delivers, says how it is, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import ray
from ray import serve
from redis import Redis

from delivery.channels.base import Resources
from delivery.channels.in_app import InAppSettings
from delivery.courier import Courier, CourierParts
from delivery.dispatch import Dispatcher
from delivery.parts import Parts
from delivery.ray_courier import CourierReplica
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from lake.ids import shard_of
from lake.keys import Keys
from lake.messages import FIELD
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from lake.redis_clock import RedisClock
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from scheduler.redis_lease import RedisLeases
from tests.stores import undaunted
from tests.unit.delivery.examples import NOW, Refunds, a_message

META = Meta(shards=2)


def make_courier(url: str, owner: str) -> Courier:
    """Return a courier of the store, as serve_app does."""
    client = undaunted(url)
    profiles = RedisProfileStore(client, META.keys)
    outbox = RedisOutbox(client, META.keys)
    parts = Parts(
        outbox=outbox,
        channels={"in_app": InAppSettings().open(Resources(RedisInbox(client, META.keys)))},
        profiles=profiles,
        items=RedisItemStore(client, META.keys),
        suppression=Suppression(RedisSuppressionStore(client, META.keys), profiles, META),
        templates=Templates(TemplateSettings()),
        refund=Refunds(),
        meta=META,
    )
    clock = RedisClock(client)
    return Courier(CourierParts(Dispatcher(parts), outbox, RedisLeases(client), clock, MemoryMetrics(), META.keys), owner)


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    yield
    shut_down: Callable[[], None] = serve.shutdown
    shut_down()
    ray.shutdown()


@pytest.mark.timeout(600)  # starting Ray takes a minute on a busy machine
async def test_a_deployed_courier_delivers_and_gives_up_its_leases_when_it_is_stopped(
    cluster: None, redis_client: Redis, embedded_store: str
) -> None:
    RedisItemStore(redis_client, META.keys).put([{"item_id": "i1", "created_at": NOW, "title": "A new room"}])
    RedisProfileStore(redis_client, META.keys).put(["u1"], blank(1))
    message = a_message(channel="in_app", deliver_by=float("inf"))
    serve.run(CourierReplica.bind(partial(make_courier, embedded_store)), route_prefix=None)
    inbox = RedisInbox(redis_client, META.keys)
    redis_client.xadd(META.keys.of_shard(Keys.OUTBOX, shard_of("u1", META.shards)), {FIELD: message.pack()})
    (entry,) = await inbox.wait("u1", "", 120.0)
    assert entry.title == "A new room"
    serve.delete("default")
    now = RedisClock(redis_client).now()
    names = [META.keys.of_shard(f"{Keys.LEASE}-courier", shard) for shard in range(META.shards)]
    assert all(RedisLeases(redis_client).acquire(name, "next", now, 1.0) == 2 for name in names)
    inbox.close()
