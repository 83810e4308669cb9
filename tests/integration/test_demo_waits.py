"""The demo's clock waits for what is on its way, and not for what its user wants later."""

from __future__ import annotations

import pytest
from redis import Redis

from delivery.outbox import Retry
from delivery.redis_outbox import RedisOutbox
from lake.ids import shard_of
from lake.keys import Keys
from lake.messages import FIELD
from lake.meta import Meta
from scheduler.redis_stores import RedisStores
from tests.unit.delivery.examples import NOW, a_message
from tidings import demo

META = Meta(shards=2)


@pytest.mark.parametrize(("later_s", "waits"), [(3600.0, False), (2.0, True)], ids=["until the morning", "for another attempt"])
def test_the_clock_goes_on_past_what_waits(redis_client: Redis, monkeypatch: pytest.MonkeyPatch, later_s: float, waits: bool) -> None:
    stores, outbox = RedisStores(redis_client, META), RedisOutbox(redis_client, META.keys)
    shard = shard_of(a_message().user_id, META.shards)
    redis_client.xadd(META.keys.of_shard(Keys.OUTBOX, shard), {FIELD: a_message().pack()})
    (entry,) = outbox.read(shard, "courier", 9, NOW, 1000)
    outbox.retry_later(shard, [Retry(entry, NOW + later_s)])
    monkeypatch.setattr(demo, "DELIVERY_S", 5.0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        monkeypatch.setattr(demo, "DELIVERY_S", 0.0)

    monkeypatch.setattr("time.sleep", sleep)
    demo.wait_for_deliveries(stores, NOW)
    assert bool(slept) is waits
