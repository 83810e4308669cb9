"""Items whose audience grows as the engagement with them grows: a few are asked first, and the more care, the more are told."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lake.ids import combine, hash64
from lake.items import ItemTable
from scheduler.sources.base import Proposals, UserChunk, at_most
from scheduler.sources.trending import Heat


@dataclass
class Growing:
    """`least`: people who must have engaged lately before anybody is told. `first`: the share of users who then are; it grows in
    proportion to the engagement. `limit`: most rows per user, the hottest first. `heat` is read at most once per `fresh_s` seconds.

    Who belongs to an item's audience follows from the ids alone: as it grows, nobody leaves it.
    """

    heat: Heat
    least: float = 5.0
    first: float = 0.01
    limit: int = 20
    most_items: int = 200
    fresh_s: float = 60.0
    name: str = "growing"
    _hot: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _share: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    _of: tuple[int, float] = (-1, -np.inf)

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        if self._of[0] != table.generation or abs(now - self._of[1]) >= self.fresh_s:
            self._hot, self._share = self._measured(table, now)
            self._of = (table.generation, now)
        alive = table.items.expires_at[self._hot] > now
        hot, share = self._hot[alive], self._share[alive]
        draw = combine(hash64(users.user_ids)[:, None], hash64(table.items.ids[hot])[None, :]) / np.float64(2**64)
        row, column = np.nonzero(draw < share[None, :])
        kept = at_most(row.astype(np.int32), self.limit)
        return Proposals(row[kept].astype(np.int32), hot[column[kept]])

    def _measured(self, table: ItemTable, now: float) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Return the items that draw enough engagement, the hottest first, and the share of users each is told to."""
        live = np.flatnonzero((table.items.created_at <= now) & (table.items.expires_at > now))
        heat = self.heat(table.items.ids[live].tolist(), now) if len(live) else np.empty(0)
        order = np.argsort(-heat, kind="stable")[: self.most_items]
        order = order[heat[order] >= self.least]
        return live[order].astype(np.int32), np.minimum(self.first * heat[order] / self.least, 1.0)
