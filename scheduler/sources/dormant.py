"""Something for those who have not been here for a while: the best of the last days, and nothing more for a week."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from budgets.ledger import ROLLING_S, Ledger
from lake.ids import combine
from lake.items import ItemTable
from scheduler.sources.base import Proposals, UserChunk
from scheduler.sources.trending import Heat

Unseen = Callable[[Sequence[str], float], npt.NDArray[np.float64]]
"""(user ids, now) -> seconds since each user was last seen, shape (n,), NaN where they never were."""


@dataclass
class Dormant:
    """Proposes the hottest items of the last `recent_s` seconds that a user was not told of, to whoever is unseen for `unseen_s` seconds.

    Who was granted anything in the last seven days is left alone. `limit`: most items per user; `most_items`: how many of the hottest are
    looked through; `heat` is read at most once per `fresh_s` seconds.
    """

    heat: Heat
    unseen: Unseen
    ledger: Ledger
    limit: int = 1
    unseen_s: float = 14 * 86400.0
    recent_s: float = 3 * 86400.0
    most_items: int = 20
    fresh_s: float = 60.0
    name: str = "dormant"
    _best: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _of: tuple[int, float] = (-1, -np.inf)

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source. Blocks for the ledgers of those who are unseen, too."""
        if self._of[0] != table.generation or abs(now - self._of[1]) >= self.fresh_s:
            self._best, self._of = self._rank(table, now), (table.generation, now)
        best = self._best[table.items.expires_at[self._best] > now]
        away = np.flatnonzero(self.unseen(users.user_ids, now) >= self.unseen_s) if len(best) else np.empty(0, np.intp)
        if not len(away):
            return Proposals.none()
        ledger = self.ledger.read([users.user_ids[code] for code in away.tolist()])
        left_alone = np.zeros(len(away), bool)
        left_alone[ledger.user[ledger.at >= now - ROLLING_S]] = True
        pairs = combine(np.arange(len(away))[:, None], table.items.entity[best][None, :])
        fresh = ~np.isin(pairs, combine(ledger.user, ledger.entity)) & ~left_alone[:, None]
        who, which = np.nonzero(fresh & (fresh.cumsum(axis=1) <= self.limit))
        return Proposals(away[who].astype(np.int32), best[which])

    def _rank(self, table: ItemTable, now: float) -> npt.NDArray[np.int32]:
        items = table.items
        live = np.flatnonzero((items.created_at <= now) & (items.created_at > now - self.recent_s) & (items.expires_at > now))
        heat = self.heat(items.ids[live].tolist(), now) if len(live) else np.empty(0)
        order = np.argsort(-heat, kind="stable")[: self.most_items]
        return live[order[heat[order] > 0]].astype(np.int32)
