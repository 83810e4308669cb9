"""What a store says of itself: its server, how it persists, what it would do when full, and what was created in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from lake.keys import HELD_CLOCK, META
from lake.redis_store import connect

TIMEOUT_S = 2.0


@dataclass(frozen=True)
class StoreHealth:
    """One look at a store. `appendfsync` is None where the server does not show its configuration, `shards` where the store is empty.

    `held_at`: seconds, the moment its clock is held at; None where the clock runs.
    """

    server: str
    version: str
    redis_version: tuple[int, ...]
    clustered: bool
    aof: bool
    aof_writes: bool
    appendfsync: str | None
    maxmemory_policy: str
    used_memory_bytes: int
    layout: str | None
    shards: int | None
    held_at: float | None


def inspect_store(url: str) -> StoreHealth:
    """Return what the store at `url` says of itself.

    Raises ConnectionError, with the server's own words, where it does not answer or does not let us ask, or the URL is none.
    """
    try:
        with connect(url, timeout_s=TIMEOUT_S) as client:
            return _inspect(client)
    except (RedisError, ValueError) as error:
        raise ConnectionError(str(error)) from error


def _inspect(client: Redis) -> StoreHealth:
    info: Mapping[str, str | int | float] = client.info("everything")
    valkey = "valkey_version" in info
    meta = json.loads(client.get(META) or b"{}")
    held = client.get(HELD_CLOCK)
    return StoreHealth(
        server="valkey" if valkey else "redis",
        version=str(info["valkey_version" if valkey else "redis_version"]),
        redis_version=tuple(int(part) for part in str(info["redis_version"]).split(".")),
        clustered=bool(info.get("cluster_enabled")),
        aof=bool(info.get("aof_enabled")),
        aof_writes=info.get("aof_last_write_status") == "ok",
        appendfsync=_appendfsync(client),
        maxmemory_policy=str(info.get("maxmemory_policy", "unknown")),
        used_memory_bytes=int(info["used_memory"]),
        layout=meta.get("layout"),
        shards=meta.get("shards"),
        held_at=float(held) if held is not None else None,
    )


def _appendfsync(client: Redis) -> str | None:
    try:
        return client.config_get("appendfsync").get("appendfsync")
    except ResponseError:  # hosted stores often refuse CONFIG
        return None
