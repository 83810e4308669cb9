"""The console's numbers, read from a real store."""

from __future__ import annotations

import numpy as np
from redis import Redis

from gateway.redis_overview import RedisOverview
from lake.keys import Keys
from lake.meta import Meta
from lake.metrics import CANDIDATES, LAST_SLOT, MODEL_ID, WINDOWS, sends_field

META = Meta(shards=4)
NOW = 1_700_000_000.0


def _overview(client: Redis) -> RedisOverview:
    return RedisOverview(client, META, np.full(len(META.channels), 3, np.uint8))


def test_an_empty_store_has_an_empty_overview(redis_client: Redis) -> None:
    overview = _overview(redis_client)(NOW)
    assert (overview.windows, overview.outbox_backlog, overview.budget_use, overview.at) == (0, 0, {}, NOW)


def test_what_shards_counted_is_added_up_once_a_second(redis_client: Redis) -> None:
    for shard in range(META.shards):
        name = META.keys.of_shard(Keys.METRICS, shard)
        redis_client.hincrby(name, WINDOWS, 2)
        redis_client.hincrby(name, CANDIDATES, 5)
        redis_client.hincrby(name, sends_field("urgent", "push"), 1)
        redis_client.hset(name, mapping={LAST_SLOT: str(shard), MODEL_ID: f"m{shard}"})
    read = _overview(redis_client)
    overview = read(NOW)
    assert (overview.windows, overview.candidates, overview.sends) == (8, 20, {"urgent": {"push": 4}})
    assert (overview.last_slot_at, overview.model_id) == (2700.0, "m3")
    redis_client.hincrby(META.keys.of_shard(Keys.METRICS, 0), WINDOWS, 1)
    assert read(NOW + 0.5).windows == 8
    assert read(NOW + 1.5).windows == 9
