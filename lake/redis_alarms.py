"""What is wrong right now, in one hash of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.alarms import Alarm, fresh
from lake.keys import ALARMS


@dataclass(frozen=True)
class RedisAlarms:
    """Alarms on a Redis-protocol server."""

    client: Redis

    def ringing(self, now: float) -> Mapping[str, Alarm]:
        """See Alarms."""
        found: Any = self.client.hgetall(ALARMS)
        return fresh({name.decode(): Alarm(**msgpack.unpackb(packed)) for name, packed in found.items()}, now)

    def ring(self, name: str, alarm: Alarm) -> None:
        """See Alarms."""
        self.client.hset(ALARMS, name, msgpack.packb(asdict(alarm)))

    def clear(self, name: str) -> None:
        """See Alarms."""
        self.client.hdel(ALARMS, name)
