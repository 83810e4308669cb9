"""The learned thresholds in the store: one hash by channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from lake.keys import THRESHOLDS


@dataclass(frozen=True)
class RedisThresholds:
    """See Thresholds."""

    client: Redis

    def read(self) -> dict[str, float]:
        """See Thresholds."""
        found: Any = self.client.hgetall(THRESHOLDS)
        return {name.decode(): float(value) for name, value in found.items()}

    def write(self, learned: Mapping[str, float]) -> None:
        """See Thresholds."""
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(THRESHOLDS)
        if learned:
            pipe.hset(THRESHOLDS, mapping={name: repr(value) for name, value in learned.items()})
        pipe.execute()
