"""Items in the store: one packed row per item, and a stream of changes that every item table follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from redis import Redis

from lake.items import ItemRow
from lake.keys import ITEM_CHANGES, Keys

CHANGES_PER_READ = 100_000


@dataclass(frozen=True)
class RedisItemStore:
    """The item store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def put(self, rows: Sequence[ItemRow]) -> None:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for row in rows:
            pipe.set(self._key(row["item_id"]), msgpack.packb(dict(row)))
            self._announce(pipe, row["item_id"])
        pipe.execute()

    def lend(self, rows: Sequence[ItemRow], for_s: float, /) -> None:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for row in rows:
            pipe.set(self._key(row["item_id"]), msgpack.packb(dict(row)), px=int(for_s * 1000))
        pipe.execute()

    def delete(self, item_ids: Sequence[str]) -> None:
        """See ItemStore."""
        pipe = self.client.pipeline(transaction=False)
        for item_id in item_ids:
            pipe.delete(self._key(item_id))
            self._announce(pipe, item_id)
        pipe.execute()

    def get(self, item_ids: Sequence[str]) -> list[ItemRow | None]:
        """See ItemStore."""
        if not item_ids:
            return []
        packed: Any = self.client.mget([self._key(item_id) for item_id in item_ids])
        return [None if row is None else msgpack.unpackb(row) for row in packed]

    def changes(self, cursor: str) -> tuple[list[str], str]:
        """See ItemStore."""
        entries: Any = self.client.xrange(ITEM_CHANGES, f"({cursor}" if cursor else "-", count=CHANGES_PER_READ)
        if not entries:
            return [], cursor
        return list(dict.fromkeys(entry[b"i"].decode() for _, entry in entries)), entries[-1][0].decode()

    def _key(self, item_id: str) -> str:
        return self.keys.of_user(Keys.ITEM, item_id)

    def _announce(self, pipe: Redis, item_id: str) -> None:
        pipe.xadd(ITEM_CHANGES, {"i": item_id}, maxlen=1_000_000, approximate=True)
