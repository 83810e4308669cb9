"""Follows in the store: a packed string of keys and a row of names per user, a set of followers per key and shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.follows import Followed
from lake.ids import shard_of
from lake.key_lists import KeyLists
from lake.keys import Keys

PAGE = 1000


@dataclass(frozen=True)
class RedisFollowStore:
    """The follow store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def put(self, user_ids: Sequence[str], followed: Sequence[Followed]) -> None:
        """See FollowStore."""
        pipe = self.client.pipeline(transaction=False)
        for user_id, old, new in zip(user_ids, self.get(user_ids), followed, strict=True):
            shard = shard_of(user_id, self.keys.shards)
            before, after = set(old.keys().tolist()), set(new.keys().tolist())
            for key in before - after:
                pipe.srem(self._followers_key(shard, key), user_id)
            for key in after - before:
                pipe.sadd(self._followers_key(shard, key), user_id)
            pipe.set(self.keys.of_user(Keys.FOLLOWS, user_id), new.keys().astype("<u8").tobytes())
            pipe.set(self._names_key(user_id), msgpack.packb([new.topics, new.authors]))
        pipe.execute()

    def get(self, user_ids: Sequence[str]) -> list[Followed]:
        """See FollowStore."""
        if not user_ids:
            return []
        rows: Any = self.client.mget([self._names_key(user_id) for user_id in user_ids])
        return [Followed() if row is None else Followed(*map(tuple, msgpack.unpackb(row))) for row in rows]

    def keys_of(self, user_ids: Sequence[str]) -> KeyLists:
        """See FollowStore."""
        packed: Any = self.client.mget(self.keys.of_users(Keys.FOLLOWS, list(user_ids))) if user_ids else []
        return KeyLists.from_packed(packed)

    def followers(self, shard: int, key: int) -> Iterator[list[str]]:
        """See FollowStore."""
        cursor = 0
        while True:
            reply: Any = self.client.sscan(self._followers_key(shard, key), cursor, count=PAGE)
            cursor, members = reply
            if members:
                yield [member.decode() for member in members]
            if cursor == 0:
                return

    def _followers_key(self, shard: int, key: int) -> str:
        return f"{self.keys.of_shard(Keys.FOLLOWERS, shard)}:{key:016x}"

    def _names_key(self, user_id: str) -> str:
        return self.keys.of_user(Keys.FOLLOWS + "n", user_id)
