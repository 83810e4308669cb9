"""The due index on a Redis-protocol server: one sorted set of users per shard, scored by their slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis

from lake.ids import shards_of
from lake.keys import Keys
from scheduler.due import NOT_IN


@dataclass(frozen=True)
class RedisDueIndex:
    """See DueIndex."""

    client: Redis
    keys: Keys

    def enroll(self, users: Sequence[str], slots: npt.ArrayLike) -> None:
        """See DueIndex."""
        pipe = self.client.pipeline(transaction=False)
        into = np.asarray(slots, np.int64)
        for shard, rows in self._by_shard(users):
            pipe.zadd(self._key(shard), dict(zip([users[row] for row in rows], into[rows].tolist(), strict=True)))
        pipe.execute()

    def due(self, shard: int, slot: int, limit: int, offset: int = 0) -> tuple[list[str], npt.NDArray[np.int64]]:
        """See DueIndex."""
        rows: Any = self.client.zrange(self._key(shard), "-inf", slot, byscore=True, offset=offset, num=limit, withscores=True)
        return [user.decode() for user, _ in rows], np.array([at for _, at in rows], np.int64)

    def counts(self, slot: int) -> npt.NDArray[np.int64]:
        """See DueIndex."""
        pipe = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipe.zcount(self._key(shard), "-inf", slot)
        return np.array(pipe.execute(), np.int64)

    def slots(self, users: Sequence[str]) -> npt.NDArray[np.int64]:
        """See DueIndex."""
        pipe = self.client.pipeline(transaction=False)
        shards = list(self._by_shard(users))
        for shard, rows in shards:
            pipe.zmscore(self._key(shard), [users[row] for row in rows])
        found = np.full(len(users), NOT_IN, np.int64)
        for (_, rows), slots in zip(shards, pipe.execute(), strict=True):
            found[rows] = [NOT_IN if slot is None else int(slot) for slot in slots]
        return found

    def remove(self, users: Sequence[str]) -> None:
        """See DueIndex."""
        pipe = self.client.pipeline(transaction=False)
        for shard, rows in self._by_shard(users):
            pipe.zrem(self._key(shard), *[users[row] for row in rows])
        pipe.execute()

    def _key(self, shard: int) -> str:
        return self.keys.of_shard(Keys.DUE, shard)

    def _by_shard(self, users: Sequence[str]) -> list[tuple[int, npt.NDArray[np.intp]]]:
        shards = shards_of(users, self.keys.shards)
        return [(int(shard), np.flatnonzero(shards == shard)) for shard in np.unique(shards)]
