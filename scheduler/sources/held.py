"""Rows held from the urgent lane, offered again in the user's window and ranked against everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.items import ItemTable
from scheduler.held import MAX_HELD, HeldStore
from scheduler.sources.base import Proposals, UserChunk, at_most


@dataclass(frozen=True)
class HeldRows:
    """Proposes unexpired held rows whose item is still in the table. `limit`: most rows per user, those worth most when they were held."""

    held: HeldStore
    limit: int = MAX_HELD
    name: str = "held"

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        kept = self.held.read(users.user_ids)
        rows = [(user, row.item_id, row.value) for user, mine in enumerate(kept) for row in mine if row.expires_at > now]
        if not rows:
            return Proposals.none()
        item = table.codes([item_id for _, item_id, _ in rows])
        user, value = np.array([user for user, _, _ in rows], np.int32), np.array([value for *_, value in rows])
        alive = np.flatnonzero(item >= 0)
        alive = alive[table.items.expires_at[item[alive]] > now]
        best = alive[np.lexsort((-value[alive], user[alive]))]
        chosen = np.sort(best[at_most(user[best], self.limit)])
        return Proposals(user[chosen], item[chosen])
