"""The mapping of users to random keys, in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from lake.keys import Keys
from lake.user_keys import draw


@dataclass(frozen=True)
class RedisUserKeys:
    """One key per user on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def of(self, user_ids: Sequence[str]) -> list[str]:
        """See UserKeys."""
        pipe = self.client.pipeline(transaction=False)
        names = self.keys.of_users(Keys.USER_KEY, list(user_ids))
        for name in names:
            pipe.set(name, draw(), nx=True)
        for name in names:
            pipe.get(name)
        drawn: list[Any] = pipe.execute()
        return [key.decode() for key in drawn[len(names) :]]

    def known(self, user_ids: Sequence[str]) -> list[str | None]:
        """See UserKeys."""
        found: Any = self.client.mget(self.keys.of_users(Keys.USER_KEY, list(user_ids))) if user_ids else []
        return [None if key is None else key.decode() for key in found]

    def forget(self, user_ids: Sequence[str]) -> None:
        """See UserKeys."""
        pipe = self.client.pipeline(transaction=False)
        for name in self.keys.of_users(Keys.USER_KEY, list(user_ids)):
            pipe.delete(name)
        pipe.execute()
