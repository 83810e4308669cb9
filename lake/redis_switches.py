"""What is switched off, in one hash of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.keys import SWITCHES
from lake.switches import Off


@dataclass(frozen=True)
class RedisSwitches:
    """Switches on a Redis-protocol server."""

    client: Redis

    def off(self) -> Mapping[str, Off]:
        """See Switches."""
        found: Any = self.client.hgetall(SWITCHES)
        return {name.decode(): Off(**msgpack.unpackb(packed)) for name, packed in found.items()}

    def turn_off(self, name: str, reason: str, now: float) -> None:
        """See Switches."""
        self.client.hset(SWITCHES, name, msgpack.packb(asdict(Off(reason, now))))

    def turn_on(self, name: str) -> bool:
        """See Switches."""
        return bool(self.client.hdel(SWITCHES, name))
