"""Who follows what: each user's followed keys, and each key's followers by shard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from lake.ids import Keys64, author_key, shard_of, topic_key
from lake.key_lists import KeyLists
from lake.meta import Meta


@dataclass(frozen=True)
class Followed:
    """One user's follows by name."""

    topics: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()

    def keys(self) -> Keys64:
        """Return the keys of everything followed."""
        return np.concatenate([topic_key(self.topics), author_key(self.authors)])


class FollowStore(Protocol):
    """Where follows live. Methods for many users are one round trip; unknown users follow nothing."""

    def put(self, user_ids: Sequence[str], followed: Sequence[Followed]) -> None:
        """Replace what users follow."""
        ...

    def get(self, user_ids: Sequence[str]) -> list[Followed]:
        """Return what users follow, by name."""
        ...

    def keys_of(self, user_ids: Sequence[str]) -> KeyLists:
        """Return what users follow, as keys."""
        ...

    def followers(self, shard: int, key: int) -> Iterator[list[str]]:
        """Yield the followers of a key in one shard, in pages of about 1,000; a user may come twice."""
        ...


def followers_of(store: FollowStore, shards: int, user_id: str) -> set[str]:
    """Return everybody who follows a user, over all shards."""
    (key,) = author_key([user_id]).tolist()
    return {follower for shard in range(shards) for page in store.followers(shard, key) for follower in page}


def unfollow(store: FollowStore, shards: int, user_id: str) -> int:
    """Take a user out of what everybody else follows; returns how many followed them."""
    followers = sorted(followers_of(store, shards, user_id))
    followed = store.get(followers)
    store.put(followers, [replace(each, authors=tuple(name for name in each.authors if name != user_id)) for each in followed])
    return len(followers)


@dataclass
class MemoryFollowStore:
    """Follows in dictionaries, for tests and replay."""

    meta: Meta
    _followed: dict[str, Followed] = field(default_factory=dict)
    _packed: dict[str, bytes] = field(default_factory=dict)
    _followers: defaultdict[tuple[int, int], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def put(self, user_ids: Sequence[str], followed: Sequence[Followed]) -> None:
        """See FollowStore."""
        for user_id, new in zip(user_ids, followed, strict=True):
            shard = shard_of(user_id, self.meta.shards)
            for key in self._followed.get(user_id, Followed()).keys().tolist():
                self._followers[shard, key].pop(user_id, None)
            keys = new.keys()
            self._followed[user_id], self._packed[user_id] = new, keys.astype("<u8").tobytes()
            for key in keys.tolist():
                self._followers[shard, key][user_id] = None

    def get(self, user_ids: Sequence[str]) -> list[Followed]:
        """See FollowStore."""
        return [self._followed.get(user_id, Followed()) for user_id in user_ids]

    def keys_of(self, user_ids: Sequence[str]) -> KeyLists:
        """See FollowStore."""
        return KeyLists.from_packed([self._packed.get(user_id) for user_id in user_ids])

    def followers(self, shard: int, key: int) -> Iterator[list[str]]:
        """See FollowStore."""
        if users := list(self._followers[shard, key]):
            yield users
