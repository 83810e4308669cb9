"""The learned half-lives in the store: one hash by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from lake.keys import HALF_LIVES


@dataclass(frozen=True)
class RedisHalfLives:
    """See HalfLives."""

    client: Redis

    def read(self) -> dict[str, float]:
        """See HalfLives."""
        found: Any = self.client.hgetall(HALF_LIVES)
        return {kind.decode(): float(value) for kind, value in found.items()}

    def write(self, learned: Mapping[str, float]) -> None:
        """See HalfLives."""
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(HALF_LIVES)
        if learned:
            pipe.hset(HALF_LIVES, mapping={kind: repr(value) for kind, value in learned.items()})
        pipe.execute()
