"""Rate windows on a Redis-protocol server, through the connections there are; both keys of a window carry one hash tag."""

from __future__ import annotations

from limits.storage import RedisStorage
from redis import Redis

from lake.keys import RATES


def redis_windows(client: Redis) -> RedisStorage:
    """Return the windows in the store of `client`."""
    # The URL only names the protocol: the pool knows where the store is, and never repeats a command by itself.
    return RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=RATES)
