"""Who is calling: bearer keys, looked up at most once a second each, so that a revoked key stops working within that time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from gateway.api_keys import ApiKey, ApiKeyStore, split_token
from gateway.problems import forbidden, unauthorized
from lake.clock import Clock

CACHED_S = 1.0
MAX_CACHED = 10_000
"""Forged ids are cached too; past this many the cache starts again."""


@dataclass(frozen=True)
class Seen:
    """A key as it was when it was looked up: the store's time then, and the age of this copy on the caller's own clock."""

    key: ApiKey | None
    now: float
    read_at: float


@dataclass
class Gatekeeper:
    """Checks keys against the store. `elapsed` is a clock that only measures how old a copy is."""

    keys: ApiKeyStore
    clock: Clock
    elapsed: Callable[[], float] = time.monotonic
    _seen: dict[str, Seen] = field(default_factory=dict)
    _reading: dict[str, asyncio.Future[Seen]] = field(default_factory=dict)

    async def admit(self, authorization: str | None, scopes: Sequence[str]) -> ApiKey:
        """Return the key of an Authorization header that has any of `scopes`; raises ProblemError 401 or 403."""
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise unauthorized("send `Authorization: Bearer <key>`; `tidings keys new` makes a key")
        return await self.admit_token(token.strip(), scopes)

    async def admit_token(self, token: str, scopes: Sequence[str]) -> ApiKey:
        """Return the key of a token that has any of `scopes`; raises ProblemError 401 or 403."""
        parts = split_token(token)
        seen = await self._look_up(parts[0]) if parts else None
        if parts is None or seen is None or seen.key is None or not seen.key.opens(parts[1], seen.now):
            raise unauthorized("this key is not known, was revoked or has expired")
        if not seen.key.may(scopes):
            raise forbidden(scopes)
        return seen.key

    def forget(self, key_id: str) -> None:
        """Look a key up again at its next use."""
        self._seen.pop(key_id, None)

    async def _look_up(self, key_id: str) -> Seen:
        seen = self._seen.get(key_id)
        if seen is not None and self.elapsed() - seen.read_at < CACHED_S:
            return seen
        if key_id not in self._reading:  # one look-up serves everyone who waits for it
            self._reading[key_id] = asyncio.ensure_future(run_in_threadpool(self._read, key_id))
            self._reading[key_id].add_done_callback(lambda _: self._reading.pop(key_id, None))
        seen = await asyncio.shield(self._reading[key_id])
        if len(self._seen) >= MAX_CACHED:
            self._seen.clear()
        self._seen[key_id] = seen
        return seen

    def _read(self, key_id: str) -> Seen:
        read_at = self.elapsed()
        return Seen(self.keys.get(key_id), self.clock.now(), read_at)
