"""The learned thresholds in the store: one hash by channel, and one packed table per shard of what its users have of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from redis import Redis
from redis.client import Pipeline

from lake.keys import THRESHOLDS, Keys
from scheduler.thresholds import F32, FRESH_S, Ints, OwnThresholds, Revise, own_of

NOBODY = OwnThresholds(np.zeros(0, np.uint64), np.zeros((0, 0), np.float32))


@dataclass(frozen=True)
class RedisThresholds:
    """See Thresholds. Tables that were read are kept for FRESH_S."""

    client: Redis
    keys: Keys
    _tables: dict[int, OwnThresholds] = field(default_factory=dict)
    _read_at: dict[int, float] = field(default_factory=dict)

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

    def own(self, users: Sequence[str], shard: Ints, now: float) -> F32 | None:
        """See Thresholds."""
        wanted = np.unique(shard).tolist()
        stale = [number for number in wanted if not 0 <= now - self._read_at.get(number, -np.inf) < FRESH_S]
        if stale:
            self._fetch(stale, now)
        return own_of({number: self._tables[number] for number in wanted}, users, shard)

    def write_own(self, shard: int, table: OwnThresholds, state: bytes = b"") -> None:
        """See Thresholds."""
        pipe = self.client.pipeline(transaction=True)
        self._set(pipe, shard, table, state)
        pipe.execute()
        self._read_at.pop(shard, None)

    def state(self, shard: int) -> bytes:
        """See Thresholds."""
        found: Any = self.client.get(self.keys.of_shard(Keys.THRESHOLD_STATE, shard))
        return bytes(found or b"")

    def revise_own(self, shard: int, revise: Revise) -> None:
        """See Thresholds."""

        def revised(pipe: Pipeline) -> None:
            packed: Any = pipe.get(self.keys.of_shard(Keys.OWN_THRESHOLDS, shard))
            state: Any = pipe.get(self.keys.of_shard(Keys.THRESHOLD_STATE, shard))
            pipe.multi()
            if packed:
                self._set(pipe, shard, *revise(OwnThresholds.unpack(packed), bytes(state or b"")))

        watched = [self.keys.of_shard(kind, shard) for kind in (Keys.OWN_THRESHOLDS, Keys.THRESHOLD_STATE)]
        self.client.transaction(revised, *watched)
        self._read_at.pop(shard, None)

    def _set(self, pipe: Pipeline, shard: int, table: OwnThresholds, state: bytes) -> None:
        pipe.set(self.keys.of_shard(Keys.OWN_THRESHOLDS, shard), table.pack())
        pipe.set(self.keys.of_shard(Keys.THRESHOLD_STATE, shard), state)

    def _fetch(self, shards: list[int], now: float) -> None:
        pipe = self.client.pipeline(transaction=False)
        for shard in shards:
            pipe.get(self.keys.of_shard(Keys.OWN_THRESHOLDS, shard))
        for shard, packed in zip(shards, pipe.execute(), strict=True):
            # Threads share these: a table is never gone once it was there, and is there before it counts as read.
            self._tables[shard] = OwnThresholds.unpack(packed) if packed else NOBODY
            self._read_at[shard] = now
