"""Users rows in the store: one packed string per user."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack
from redis import Redis

from gateway.user_rows import UserRow
from lake.keys import Keys

KIND = "ur"


@dataclass(frozen=True)
class RedisUserRows:
    """The users rows on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def put(self, user_id: str, row: UserRow) -> None:
        """See UserRows."""
        self.client.set(self.keys.of_user(KIND, user_id), msgpack.packb(dict(row)))

    def get(self, user_id: str) -> UserRow | None:
        """See UserRows."""
        packed = self.client.get(self.keys.of_user(KIND, user_id))
        return None if packed is None else msgpack.unpackb(packed)

    def delete(self, user_id: str) -> None:
        """See UserRows."""
        self.client.delete(self.keys.of_user(KIND, user_id))
