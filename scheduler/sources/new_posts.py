"""New posts of the topics and authors a user follows; where a user follows nothing, everything new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.follows import FollowStore
from lake.ids import Keys64
from lake.items import Items, ItemTable
from lake.key_lists import KeyLists
from scheduler.sources.base import Proposals, UserChunk, at_most, distinct_pairs


@dataclass(frozen=True)
class Index:
    """Items by the keys they carry (topics and author), newest first.

    `newest`: int32 item rows by descending `created_at`; a place is an index into it. `keys`: sorted uint64.
    `place`: the places of the items that carry `keys[i]` are `place[starts[i]:starts[i + 1]]`, ascending.
    """

    newest: npt.NDArray[np.int32]
    keys: Keys64
    starts: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]

    @staticmethod
    def of(items: Items, live: npt.NDArray[np.bool_]) -> Index:
        """Return the index of the live items."""
        rows = np.flatnonzero(live)
        newest = rows[np.argsort(-items.created_at[rows], kind="stable")]
        carried = np.column_stack([items.topics[newest], items.author[newest]])
        place, column = np.nonzero(carried)
        keys = carried[place, column]
        order = np.lexsort((place, keys))
        distinct, first = np.unique(keys[order], return_index=True)
        return Index(newest.astype(np.int32), distinct, np.append(first, len(order)), place[order])


@dataclass
class NewPosts:
    """`limit`: most rows per user, newest first. `live_s`: how old a post may be to count as new."""

    follows: FollowStore
    limit: int = 100
    live_s: float = 7 * 86400.0
    name: str = "new_posts"
    _index: Index | None = None
    _of: tuple[int, float, float] = (-1, np.inf, -np.inf)

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """See Source."""
        index = self._current(table, now)
        follows = self.follows.keys_of(users.user_ids)
        user, place = self._followed(follows, index)
        idle = np.flatnonzero(np.diff(follows.starts) == 0).astype(np.int32)
        everything = np.arange(min(self.limit, len(index.newest)))
        user = np.concatenate([user, np.repeat(idle, len(everything))])
        place = np.concatenate([place, np.tile(everything, len(idle))])
        user, place = distinct_pairs(user, place, len(users.user_ids), len(index.newest))
        kept = at_most(user, self.limit)
        return Proposals(user[kept], index.newest[place[kept]])

    def _current(self, table: ItemTable, now: float) -> Index:
        """Rebuild the index where the table changed, or a post has come out, grown old or ended since: it must be out, alive and new."""
        generation, since, until = self._of
        if self._index is None or generation != table.generation or not since <= now < until:
            items = table.items
            out, ends_at = items.created_at <= now, np.minimum(items.expires_at, items.created_at + self.live_s)
            live = out & (ends_at > now)
            changes_at = np.concatenate([items.created_at[~out], ends_at[live], [np.inf]])
            self._index, self._of = Index.of(items, live), (table.generation, now, float(changes_at.min()))
        return self._index

    def _followed(self, follows: KeyLists, index: Index) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Expand every followed key to the newest posts that carry it."""
        if len(index.keys) == 0 or len(follows.keys) == 0:
            return np.empty(0, np.int32), np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(index.keys, follows.keys), len(index.keys) - 1)
        hit = index.keys[at] == follows.keys
        at, user = at[hit], follows.user[hit]
        counts = np.minimum(index.starts[at + 1] - index.starts[at], self.limit)
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(user, counts), index.place[np.repeat(index.starts[at], counts) + offset]
