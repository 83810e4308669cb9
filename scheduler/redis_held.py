"""Held rows on a Redis-protocol server: one msgpack list of (item_id, channel, value, expires_at) per user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.keys import Keys
from scheduler.held import Held


@dataclass(frozen=True)
class RedisHeldStore:
    """Reads what lua/commit.lua writes. See HeldStore."""

    client: Redis
    keys: Keys

    def read(self, user_ids: Sequence[str]) -> list[list[Held]]:
        """See HeldStore."""
        packed: Any = self.client.mget(self.keys.of_users(Keys.HELD, list(user_ids))) if user_ids else []
        return [[] if rows is None else [_held(*row) for row in msgpack.unpackb(rows)] for rows in packed]


def _held(item_id: str, channel: int, value: float, expires_at: float) -> Held:
    """Return one row; Lua packs whole numbers as integers."""
    return Held(item_id, int(channel), float(value), float(expires_at))
