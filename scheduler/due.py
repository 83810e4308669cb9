"""When each user is next looked at: one sorted index of (user, slot) per shard, and the only checkpoint there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.ids import shard_of

NOT_IN = -1
"""The slot of a user who is in none."""


class DueIndex(Protocol):
    """Users by the slot they are due in. The commit moves them on; each call here is one round trip."""

    def enroll(self, users: Sequence[str], slots: npt.ArrayLike) -> None:
        """Put users into slots (int64 UTC quarter-hours), out of whichever they were in."""
        ...

    def due(self, shard: int, slot: int, limit: int, offset: int = 0) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return up to `limit` users of a shard due in `slot` or before, oldest slot first, and the slots they are in.

        Users leave the index as they are decided, so whoever commits a page before asking for the next leaves `offset` 0.
        """
        ...

    def counts(self, slot: int) -> npt.NDArray[np.int64]:
        """Return the users of each shard due in `slot` or before, shape (shards,)."""
        ...

    def slots(self, users: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the slot each user is in, -1: none."""
        ...

    def remove(self, users: Sequence[str]) -> None:
        """Take users out of the index."""
        ...


@dataclass
class MemoryDueIndex:
    """The index in a dictionary per shard, for tests and replay."""

    shards: int
    by_shard: dict[int, dict[str, int]] = field(default_factory=dict)

    def of(self, shard: int) -> dict[str, int]:
        """Return the slots of a shard's users."""
        return self.by_shard.setdefault(shard, {})

    def enroll(self, users: Sequence[str], slots: npt.ArrayLike) -> None:
        """See DueIndex."""
        for user, slot in zip(users, np.asarray(slots, np.int64).tolist(), strict=True):
            self.of(shard_of(user, self.shards))[user] = slot

    def due(self, shard: int, slot: int, limit: int, offset: int = 0) -> tuple[list[str], npt.NDArray[np.int64]]:
        """See DueIndex."""
        rows = sorted((at, user.encode(), user) for user, at in self.of(shard).items() if at <= slot)
        page = rows[offset : offset + limit]
        return [user for _, _, user in page], np.array([at for at, _, _ in page], np.int64)

    def counts(self, slot: int) -> npt.NDArray[np.int64]:
        """See DueIndex."""
        return np.array([sum(at <= slot for at in self.of(shard).values()) for shard in range(self.shards)], np.int64)

    def slots(self, users: Sequence[str]) -> npt.NDArray[np.int64]:
        """See DueIndex."""
        return np.array([self.of(shard_of(user, self.shards)).get(user, -1) for user in users], np.int64)

    def remove(self, users: Sequence[str]) -> None:
        """See DueIndex."""
        for user in users:
            self.of(shard_of(user, self.shards)).pop(user, None)
