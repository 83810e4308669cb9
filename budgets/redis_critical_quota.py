"""Critical quotas on a Redis-protocol server: a set per API key and UTC day, spent by one script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from redis import Redis
from redis.commands.core import Script

from budgets.critical_quota import DAY_S, Spent, day_of
from lake.ids import Keys64
from lake.keys import Keys
from lake.redis_scripts import script_of

MAX_USES = 1000
"""Most uses of one script call: it blocks the store while it runs."""
KEPT_S = 3 * DAY_S


@dataclass(frozen=True)
class RedisCriticalQuota:
    """See CriticalQuota."""

    client: Redis
    keys: Keys

    def spend(self, key_id: str, uses: Keys64, limit: int, now: float) -> Spent:
        """See CriticalQuota."""
        today = day_of(now)
        names = [self._name(key_id, today), self._name(key_id, today - 1)]
        said: list[Any] = [self._script(keys=names, args=[limit, KEPT_S, *part]) for part in _packed(uses)]
        codes = np.frombuffer(b"".join(said), np.uint8)
        return Spent(codes != ord("-"), codes == ord("1"))

    def give_back(self, key_id: str, uses: Keys64, now: float) -> None:
        """See CriticalQuota."""
        for part in _packed(uses):
            self.client.srem(self._name(key_id, day_of(now)), *part)

    def spent(self, key_id: str, now: float) -> int:
        """See CriticalQuota."""
        found: Any = self.client.scard(self._name(key_id, day_of(now)))
        return int(found)

    def _name(self, key_id: str, day: int) -> str:
        return self.keys.of_user(Keys.CRITICAL_QUOTA, key_id) + f":{day}"

    @cached_property
    def _script(self) -> Script:
        return script_of(self.client, "budgets", "spend_critical")


def _packed(uses: Keys64) -> Iterator[list[bytes]]:
    """Yield the uses in parts of at most MAX_USES."""
    packed = uses.astype("<u8").tobytes()
    for start in range(0, len(packed), 8 * MAX_USES):
        part = packed[start : start + 8 * MAX_USES]
        yield [part[place : place + 8] for place in range(0, len(part), 8)]
