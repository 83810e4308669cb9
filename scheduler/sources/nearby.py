"""New posts from where a user is: items with a place, within a radius, newest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable
from lake.places import great_circle_km
from lake.profiles import place_of
from scheduler.sources.base import Proposals, UserChunk, at_most

MOST_PLACES = 2000
"""Newest items with a place that are compared with users' own: bounds the distances of one chunk."""


@dataclass
class Nearby:
    """`radius_km`: how far away a post may be. `limit`: most rows per user. `live_s`: how old a post may be to count as new."""

    radius_km: float = 25.0
    limit: int = 50
    live_s: float = 7 * 86400.0
    name: str = "nearby"

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        items = table.items
        newest = self._newest(table, now)
        if users.profiles is None or not len(newest):
            return Proposals.none()
        mine = place_of(users.profiles)
        placed = np.flatnonzero(~np.isnan(mine).any(axis=1))
        theirs = np.stack([items.latitude[newest], items.longitude[newest]], axis=1)
        near = great_circle_km(mine[placed][:, None, :], theirs[None, :, :]) <= self.radius_km
        row, column = np.nonzero(near)
        kept = at_most(row.astype(np.int32), self.limit)
        return Proposals(placed[row[kept]].astype(np.int32), newest[column[kept]])

    def _newest(self, table: ItemTable, now: float) -> npt.NDArray[np.int32]:
        """Return the rows of live new items with a place, newest first."""
        items = table.items
        live = (items.created_at <= now) & (items.created_at > now - self.live_s) & (items.expires_at > now)
        rows = np.flatnonzero(live & ~np.isnan(items.latitude) & ~np.isnan(items.longitude))
        return rows[np.argsort(-items.created_at[rows], kind="stable")][:MOST_PLACES].astype(np.int32)
