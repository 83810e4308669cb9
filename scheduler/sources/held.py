"""Rows held from the urgent lane, offered again in the user's window and ranked against everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.items import ItemTable
from scheduler.held import HeldStore
from scheduler.sources.base import Proposals, UserChunk


@dataclass(frozen=True)
class HeldRows:
    """Proposes every unexpired held row whose item is still in the table."""

    held: HeldStore
    name: str = "held"

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        kept = self.held.read(users.user_ids)
        rows = [(user, row.item_id) for user, mine in enumerate(kept) for row in mine if row.expires_at > now]
        if not rows:
            return Proposals.none()
        item = table.codes([item_id for _, item_id in rows])
        user = np.array([user for user, _ in rows], np.int32)
        user, item = user[item >= 0], item[item >= 0]
        alive = table.items.expires_at[item] > now
        return Proposals(user[alive], item[alive])
