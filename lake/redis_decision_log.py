"""The decision log's streams in the store; the commit script appends to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from lake.decision_log import Entry
from lake.keys import Keys


@dataclass(frozen=True)
class RedisDecisionStream:
    """One stream per shard, entries of the fields `b` (blob) and `f` (final dispositions and reasons)."""

    client: Redis
    keys: Keys

    def read(self, shard: int, count: int, after: str = "") -> list[Entry]:
        """See DecisionStream."""
        entries: Any = self.client.xrange(self._name(shard), f"({after}" if after else "-", count=count)
        return [Entry(entry_id.decode(), fields[b"b"], fields[b"f"]) for entry_id, fields in entries]

    def drop(self, shard: int, entries: Sequence[Entry]) -> None:
        """See DecisionStream."""
        if entries:
            self.client.xdel(self._name(shard), *[entry.id for entry in entries])

    def _name(self, shard: int) -> str:
        return self.keys.of_shard(Keys.DECISIONS, shard)
