"""Leases on a Redis-protocol server: one hash per lease, changed by one script."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from redis import Redis
from redis.commands.core import Script

from lake.redis_scripts import script_of


@dataclass(frozen=True)
class RedisLeases:
    """See Leases."""

    client: Redis

    def acquire(self, name: str, owner: str, now: float, ttl_s: float) -> int | None:
        """See Leases."""
        return self._run(name, "acquire", owner, now, now + ttl_s) or None

    def renew(self, name: str, owner: str, token: int, now: float, ttl_s: float) -> bool:
        """See Leases."""
        return self._run(name, "renew", owner, now, now + ttl_s, token) > 0

    def release(self, name: str, owner: str, token: int) -> bool:
        """See Leases."""
        return self._run(name, "release", owner, token) > 0

    def token(self, name: str) -> int:
        """See Leases."""
        return int(self.client.hget(name, "token") or 0)

    def _run(self, name: str, *args: str | float) -> int:
        exact = [arg if isinstance(arg, str) else repr(arg) for arg in args]
        return int(self._script(keys=[name], args=exact))

    @cached_property
    def _script(self) -> Script:
        return script_of(self.client, "scheduler", "lease")
