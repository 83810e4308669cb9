"""What users engaged with, as one packed string of keys per user in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis

from lake.key_lists import KeyLists
from lake.keys import Keys
from lake.seen import MOST

KEEP_S = 30 * 86400
SLACK = 2
"""A list is cut back once it holds this many times MOST, so that most additions are one APPEND."""


@dataclass(frozen=True)
class RedisSeenStore:
    """The seen store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def add(self, user_ids: Sequence[str], items: npt.NDArray[np.uint64]) -> None:
        """See SeenStore."""
        if not len(user_ids):
            return
        names = self.keys.of_users(Keys.SEEN, list(user_ids))
        pipe = self.client.pipeline(transaction=False)
        for name, item in zip(names, items.astype("<u8"), strict=True):
            pipe.append(name, item.tobytes())
        for name in dict.fromkeys(names):
            pipe.expire(name, KEEP_S)
        sizes = dict(zip(names, pipe.execute()[: len(names)], strict=True))
        self._cut([name for name, size in sizes.items() if size > 8 * MOST * SLACK])

    def of(self, user_ids: Sequence[str]) -> KeyLists:
        """See SeenStore."""
        found: Any = self.client.mget(self.keys.of_users(Keys.SEEN, list(user_ids))) if user_ids else []
        return KeyLists.from_packed([None if row is None else row[-8 * MOST :] for row in found])

    def delete(self, user_ids: Sequence[str]) -> None:
        """See SeenStore."""
        pipe = self.client.pipeline(transaction=False)
        for name in self.keys.of_users(Keys.SEEN, list(user_ids)):
            pipe.delete(name)
        pipe.execute()

    def _cut(self, names: list[str]) -> None:
        """Drop the oldest keys; an addition at the same moment may be lost, which costs a repeated offer at worst."""
        for name in names:
            self.client.set(name, self.client.getrange(name, -8 * MOST, -1), ex=KEEP_S)
