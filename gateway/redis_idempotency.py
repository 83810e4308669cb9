"""Idempotency records in the store: one hash each, at the shard of its own name, answers deflated."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from redis import Redis
from redis.commands.core import Script

from gateway.idempotency import KEPT_S, LEASE_S, Turn
from lake.keys import Keys
from lake.redis_scripts import script_of


@dataclass(frozen=True)
class RedisIdempotency:
    """The idempotency records on a Redis-protocol server; every step is one script, and repeating a step changes nothing."""

    client: Redis
    keys: Keys
    _scripts: dict[str, Script] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for step in ("begin", "finish", "abandon"):
            self._scripts[step] = script_of(self.client, "gateway", f"idempotency_{step}")

    def begin(self, name: str, body_hash: str, now: float) -> Turn:
        """See IdempotencyStore."""
        kind, *answer = self._scripts["begin"]([self._key(name)], [body_hash, now, KEPT_S, LEASE_S])
        return Turn(kind.decode(), zlib.decompress(answer[0]) if answer else b"")

    def finish(self, name: str, body_hash: str, answer: bytes, now: float) -> bytes:
        """See IdempotencyStore."""
        kept = self._scripts["finish"]([self._key(name)], [body_hash, now, KEPT_S, zlib.compress(answer, 1)])
        return zlib.decompress(kept)

    def abandon(self, name: str, body_hash: str) -> None:
        """See IdempotencyStore."""
        self._scripts["abandon"]([self._key(name)], [body_hash])

    def _key(self, name: str) -> str:
        return self.keys.of_user(Keys.IDEMPOTENCY, name)
