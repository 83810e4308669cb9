"""What is drawing more engagement right now than it usually does, whoever follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable
from scheduler.sources.base import Proposals, UserChunk

Heat = Callable[[Sequence[str], float], npt.NDArray[np.float64]]
"""(item ids, now) -> recent engagement of each item, decayed to now, shape (n,)."""


@dataclass
class Trending:
    """Proposes the `limit` live items that draw most beyond their usual to everyone; `burst` tells by how much, is not above 0 where
    nothing is unusual, and is read at most once per `fresh_s` seconds.
    """

    burst: Heat
    limit: int = 20
    fresh_s: float = 60.0
    name: str = "trending"
    _hottest: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _of: tuple[int, float] = (-1, -np.inf)

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        if self._of[0] != table.generation or abs(now - self._of[1]) >= self.fresh_s:
            self._hottest, self._of = self._rank(table, now), (table.generation, now)
        alive = self._hottest[table.items.expires_at[self._hottest] > now]
        n = len(users.user_ids)
        return Proposals(np.repeat(np.arange(n, dtype=np.int32), len(alive)), np.tile(alive, n))

    def _rank(self, table: ItemTable, now: float) -> npt.NDArray[np.int32]:
        live = np.flatnonzero((table.items.created_at <= now) & (table.items.expires_at > now))
        burst = self.burst(table.items.ids[live].tolist(), now) if len(live) else np.empty(0)
        order = np.argsort(-burst, kind="stable")[: self.limit]
        return live[order[burst[order] > 0]].astype(np.int32)
