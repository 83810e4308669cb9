"""Where served state lives: users' and authors' rows of the last refresh, items' counts of this moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, author_key
from ranking.blocks import DECAYED, ITEM_COUNTS, Matrix, UserBlock, Week, even_week
from ranking.rows import AUTHOR, ITEM, TOPIC, USER, Records, pack, pack_users, unpack, unpack_users

KEEP_ITEMS_S = 30 * 86400
"""How long after its latest engagement the store keeps an item's counts."""

_LAST_AT = ITEM_COUNTS.index("last_at")


@dataclass(frozen=True)
class Fetched:
    """One round trip's worth of state: `users` with `known` (U,), `items` (I,) of kind ITEM, when the rows were made, the `week`."""

    users: UserBlock
    known: npt.NDArray[np.bool_]
    items: Records
    refreshed_at: float
    week: Week


class FeatureStore(Protocol):
    """Packed state by id. Every method is one round trip unless it says otherwise; unknown ids give blank rows."""

    def get(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> Fetched:
        """Return the state of users and of items, and the moment of the last refresh (NaN: never)."""
        ...

    def put_users(self, user_ids: Sequence[str], users: UserBlock, epoch: float) -> None:
        """Replace users' rows; some round trips for many users."""
        ...

    def get_authors(self, keys: Keys64) -> Records:
        """Return the rows of authors, kind AUTHOR, shape (n,)."""
        ...

    def put_authors(self, keys: Keys64, rows: Records) -> None:
        """Replace authors' rows (kind AUTHOR)."""
        ...

    def get_topics(self, keys: Keys64) -> Records:
        """Return the rows of topics, kind TOPIC, shape (n,)."""
        ...

    def put_topics(self, keys: Keys64, rows: Records) -> None:
        """Replace topics' rows (kind TOPIC)."""
        ...

    def put_items(self, item_ids: Sequence[str], rows: Records, engaged: Sequence[Keys64]) -> None:
        """Replace items' counts (kind ITEM) and the keys of the people who engaged with each."""
        ...

    def engaged_with(self, item_ids: Sequence[str]) -> list[Keys64]:
        """Return the keys of the people who engaged with each item."""
        ...

    def put_item_vectors(self, item_ids: Sequence[str], vectors: npt.NDArray[np.float32], epoch: float, users: Sequence[int]) -> list[str]:
        """Replace items' vectors where still `users` people have engaged; returns the items where more have by now."""
        ...

    def record_engagements(self, item_ids: Sequence[str], user_ids: Sequence[str], at: Sequence[float]) -> None:
        """Count engagements, each atomically: two round trips. The caller must not hand in one event twice."""
        ...

    def words(self) -> Matrix | None:
        """Return the vectors of words of the last refresh, see `word_vectors`."""
        ...

    def put_words(self, words: Matrix | None) -> None:
        """Replace the vectors of words."""
        ...

    def mark_refreshed(self, as_of: float, week: Week) -> None:
        """Say that all rows are as of a moment, and what the week looked like then; caches of rows made before end."""
        ...

    def delete_users(self, user_ids: Sequence[str]) -> None:
        """Forget users' rows, and those of them as authors."""
        ...

    def disengage(self, user_id: str, item_ids: Sequence[str]) -> None:
        """Take a user out of the people who engaged with items; the counts stay."""
        ...

    def delete_items(self, item_ids: Sequence[str]) -> None:
        """Forget items' rows and who engaged with them."""
        ...


@dataclass
class MemoryFeatureStore:
    """State in dictionaries of packed rows, for tests and replay."""

    users: dict[str, bytes] = field(default_factory=dict)
    items: dict[str, bytes] = field(default_factory=dict)
    engaged: dict[str, set[int]] = field(default_factory=dict)
    authors: dict[int, bytes] = field(default_factory=dict)
    topics: dict[int, bytes] = field(default_factory=dict)
    refreshed_at: float = np.nan
    week: Week = field(default_factory=even_week)
    word_vectors: Matrix | None = None

    def get(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> Fetched:
        """See FeatureStore."""
        users, known = unpack_users([self.users.get(user_id) for user_id in user_ids])
        return Fetched(users, known, unpack([self.items.get(item_id) for item_id in item_ids], ITEM), self.refreshed_at, self.week)

    def put_users(self, user_ids: Sequence[str], users: UserBlock, epoch: float) -> None:
        """See FeatureStore."""
        self.users.update(zip(user_ids, pack_users(users, epoch), strict=True))

    def get_authors(self, keys: Keys64) -> Records:
        """See FeatureStore."""
        return unpack([self.authors.get(key) for key in keys.tolist()], AUTHOR)

    def put_authors(self, keys: Keys64, rows: Records) -> None:
        """See FeatureStore."""
        self.authors.update(zip(keys.tolist(), pack(rows), strict=True))

    def get_topics(self, keys: Keys64) -> Records:
        """See FeatureStore."""
        return unpack([self.topics.get(key) for key in keys.tolist()], TOPIC)

    def put_topics(self, keys: Keys64, rows: Records) -> None:
        """See FeatureStore."""
        self.topics.update(zip(keys.tolist(), pack(rows), strict=True))

    def put_items(self, item_ids: Sequence[str], rows: Records, engaged: Sequence[Keys64]) -> None:
        """See FeatureStore."""
        self.items.update(zip(item_ids, pack(rows), strict=True))
        self.engaged.update((item_id, set(keys.tolist())) for item_id, keys in zip(item_ids, engaged, strict=True))

    def engaged_with(self, item_ids: Sequence[str]) -> list[Keys64]:
        """See FeatureStore."""
        return [np.array(sorted(self.engaged.get(item_id, ())), np.uint64) for item_id in item_ids]

    def put_item_vectors(self, item_ids: Sequence[str], vectors: npt.NDArray[np.float32], epoch: float, users: Sequence[int]) -> list[str]:
        """See FeatureStore."""
        changed = []
        for item_id, vector, count in zip(item_ids, vectors, users, strict=True):
            row = unpack([self.items.get(item_id)], ITEM).copy()
            if len(self.engaged.get(item_id, ())) != count:
                changed.append(item_id)
            elif count:
                row["vector"], row["epoch"] = vector, epoch
                self.items[item_id] = row.tobytes()
        return changed

    def record_engagements(self, item_ids: Sequence[str], user_ids: Sequence[str], at: Sequence[float]) -> None:
        """See FeatureStore."""
        for item_id, user_id, key, moment in zip(item_ids, user_ids, author_key(user_ids).tolist(), at, strict=True):
            engaged = self.engaged.setdefault(item_id, set())
            user = np.frombuffer(self.users.get(user_id, bytes(USER.itemsize)), USER, count=1)
            row = unpack([self.items.get(item_id)], ITEM).copy()
            self.items[item_id] = engage(row, user, moment, is_new=key not in engaged).tobytes()
            engaged.add(key)

    def words(self) -> Matrix | None:
        """See FeatureStore."""
        return self.word_vectors

    def put_words(self, words: Matrix | None) -> None:
        """See FeatureStore."""
        self.word_vectors = words

    def mark_refreshed(self, as_of: float, week: Week) -> None:
        """See FeatureStore."""
        self.refreshed_at, self.week = as_of, week

    def delete_users(self, user_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        for user_id, key in zip(user_ids, author_key(user_ids).tolist(), strict=True):
            self.users.pop(user_id, None)
            self.authors.pop(key, None)

    def disengage(self, user_id: str, item_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        (key,) = author_key([user_id]).tolist()
        for item_id in item_ids:
            self.engaged.get(item_id, set()).discard(key)

    def delete_items(self, item_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        for item_id in item_ids:
            self.items.pop(item_id, None)
            self.engaged.pop(item_id, None)


def engage(item: Records, user: Records, at: float, *, is_new: bool) -> Records:
    """Return an item's row (kind ITEM, shape (1,)) after one more engagement; the twin of lua/engage.lua.

    Only somebody's first engagement adds to the decayed counts and, where the embeddings are of one epoch, to the vector.
    """
    counts = item["counts"][0]
    last_at = max(at, counts[_LAST_AT]) if np.isfinite(counts[_LAST_AT]) else at
    for column, half_life_s in enumerate(DECAYED.values(), start=2):
        idle_s = last_at - counts[_LAST_AT] if np.isfinite(counts[_LAST_AT]) else 0.0
        counts[column] = counts[column] * 2.0 ** (-idle_s / half_life_s) + is_new * 2.0 ** (-(last_at - at) / half_life_s)
    counts[0] += 1
    counts[1] += is_new
    counts[_LAST_AT] = last_at
    epoch = float(user["epoch"][0])
    if is_new and epoch and item["epoch"][0] in (0.0, epoch):
        item["vector"] += user["vector"]
        item["epoch"] = epoch
    return item
