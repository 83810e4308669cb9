"""An audience without bound is streamed: how much memory it takes does not depend on how many belong to it."""

from __future__ import annotations

import tracemalloc

from redis import Redis

from gateway.fanout import pages_of
from lake.ids import topic_key
from lake.meta import Meta
from lake.redis_follows import RedisFollowStore
from scheduler.held import MemoryHeldStore
from scheduler.lanes import UrgentLane
from tests.unit.scheduler.test_pipeline import World

META = Meta(shards=16)
MOST_BYTES = 2_000_000


def fill(client: Redis, follows: RedisFollowStore, topic: str, users: int) -> None:
    """Let so many users follow a topic; only the side that is streamed, since the other takes a key per user."""
    key, pipe = int(topic_key([topic])[0]), client.pipeline(transaction=False)
    for shard in range(META.shards):
        pipe.sadd(follows._followers_key(shard, key), *(f"user-{number}" for number in range(shard, users, META.shards)))
    pipe.execute()


def streamed(lane: UrgentLane, topic: str) -> tuple[int, int]:
    """Return how many there were, and the most bytes that were held meanwhile."""
    tracemalloc.start()
    try:
        count = sum(len(page) for page in pages_of(lane, topic))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_users_take_no_more_memory_than_a_twentieth_of_them(redis_client: Redis) -> None:
    follows = RedisFollowStore(redis_client, META.keys)
    lane = UrgentLane(World.in_memory().pipeline(), follows, MemoryHeldStore())
    lane.pipeline.meta = META
    sizes = {"some": 50_000, "many": 1_000_000}
    for topic, users in sizes.items():
        fill(redis_client, follows, topic, users)
    held = {}
    for topic, users in sizes.items():
        count, held[topic] = streamed(lane, topic)
        assert users <= count <= users * 1.05
    assert held["many"] < min(1.5 * held["some"], MOST_BYTES)
