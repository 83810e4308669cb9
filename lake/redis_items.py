"""Items in the store: one packed row per item, and a stream of changes that every item table follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.actors import KEEP_S, NAMED, Actors, Asked, act_of
from lake.history import KEEP_DAYS
from lake.items import ItemRow
from lake.keys import ITEM_CHANGES, Keys

CHANGES_PER_READ = 100_000
KEPT_S = KEEP_DAYS * 86400
"""How long an item is kept after it was put, or after its end where it has one: as long as the history speaks of it."""

_REMOVE_ACT = """
local version = redis.call('ZSCORE', KEYS[1], ARGV[1])
return version and tonumber(version) == tonumber(ARGV[2]) and redis.call('ZREM', KEYS[1], ARGV[1]) or 0
"""
"""Forgets an author (ARGV 1) who came to the entity (KEYS 1: first version by author) with a version (ARGV 2)."""


@dataclass(frozen=True)
class RedisItemStore:
    """The item store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def put(self, rows: Sequence[ItemRow]) -> None:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for row in rows:
            pipe.set(self._key(row["item_id"]), msgpack.packb(dict(row)), ex=_kept_s(row))
            if act := act_of(row):
                pipe.zadd(self._acts(act.entity), {act.author: act.version}, lt=True)  # lt: an author counts from the first version on
                pipe.expire(self._acts(act.entity), KEEP_S)
            self._announce(pipe, row["item_id"])
        pipe.execute()

    def lend(self, rows: Sequence[ItemRow], for_s: float, /) -> None:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for row in rows:
            pipe.set(self._key(row["item_id"]), msgpack.packb(dict(row)), px=int(for_s * 1000))
        pipe.execute()

    def delete(self, item_ids: Sequence[str]) -> None:
        """See ItemStore. Two round trips: who acted is known from the rows."""
        acts = [act for row in self.get(item_ids) if row is not None and (act := act_of(row))]
        pipe = self.client.pipeline(transaction=False)
        for item_id in item_ids:
            pipe.delete(self._key(item_id))
            self._announce(pipe, item_id)
        for act in acts:
            pipe.eval(_REMOVE_ACT, 1, self._acts(act.entity), act.author, act.version)
        pipe.execute()

    def get(self, item_ids: Sequence[str]) -> list[ItemRow | None]:
        """See ItemStore."""
        if not item_ids:
            return []
        packed: Any = self.client.mget(self.keys.of_users(Keys.ITEM, list(item_ids)))
        return [None if row is None else msgpack.unpackb(row) for row in packed]

    def there(self, item_ids: Sequence[str]) -> list[bool]:
        """See ItemStore. One command where all are there, which is usual; only where some are not, one for each."""
        names = self.keys.of_users(Keys.ITEM, list(item_ids))
        if not names or self.client.exists(*names) == len(names):
            return [True] * len(names)
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.exists(name)
        return [bool(found) for found in pipe.execute()]

    def actors(self, asked: Sequence[Asked]) -> list[Actors]:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for each in asked:
            name = self._acts(each.entity)
            pipe.zrevrangebyscore(name, each.version, "-inf", start=0, num=NAMED + 1)
            pipe.zcount(name, "-inf", each.version)
            pipe.zscore(name, each.besides)
        answers = iter(pipe.execute() if asked else ())
        return [
            each.answer([name.decode() for name in latest], count, is_among=score is not None and score <= each.version)
            for each, latest, count, score in zip(asked, answers, answers, answers, strict=True)
        ]

    def changes(self, cursor: str) -> tuple[list[str], str]:
        """See ItemStore."""
        entries: Any = self.client.xrange(ITEM_CHANGES, f"({cursor}" if cursor else "-", count=CHANGES_PER_READ)
        if not entries:
            return [], cursor
        return list(dict.fromkeys(entry[b"i"].decode() for _, entry in entries)), entries[-1][0].decode()

    def _acts(self, entity: str) -> str:
        return self.keys.of_user(Keys.ACTORS, entity)

    def _key(self, item_id: str) -> str:
        return self.keys.of_user(Keys.ITEM, item_id)

    def _announce(self, pipe: Redis, item_id: str) -> None:
        pipe.xadd(ITEM_CHANGES, {"i": item_id}, maxlen=1_000_000, approximate=True)


def _kept_s(row: ItemRow) -> int:
    """Return how long to keep an item; its times may be a held clock's, so that only their difference counts."""
    lasts_s = (row.get("expires_at") or 0.0) - row["created_at"]
    return KEPT_S + (max(int(lasts_s), 0) if math.isfinite(lasts_s) else 0)
