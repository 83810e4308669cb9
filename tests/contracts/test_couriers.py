"""Couriers of one deployment divide its shards among them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

import serve_app
from lake.keys import Keys
from scheduler.redis_stores import RedisStores


@pytest.mark.parametrize(("couriers", "shares"), [(1, [5]), (2, [2, 3]), (3, [1, 2, 2])])
async def test_each_courier_of_a_deployment_takes_its_share_and_all_shards_are_taken(
    couriers: int, shares: list[int], redis_client: Redis, embedded_store: str, tmp_path: Path
) -> None:
    del redis_client  # empties the store
    settings = serve_app.Settings(model="m", redis_url=embedded_store, shards=5, history=str(tmp_path), couriers=couriers)
    names = [f"courier-{number}" for number in range(couriers)]
    for name in names:
        await serve_app.make_courier(settings, name).round()
    stores: RedisStores = serve_app.stores_of(settings)
    assert sorted(Counter(holders(stores)).values()) == shares


def holders(stores: RedisStores) -> list[str]:
    """Return who holds each shard's lease to deliver."""
    found = [stores.client.hget(stores.meta.keys.of_shard(f"{Keys.LEASE}-courier", shard), "owner") for shard in range(5)]
    return [name.decode() for name in found if isinstance(name, bytes)]
