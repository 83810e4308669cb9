"""Which items are one person's own: those they made, and those that an urgent request told nobody else of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow.compute as pc

from lake.decision_log import TABLE, DecisionLog, unpack
from lake.ids import shard_of
from lake.items import ItemRow, ItemStore

PAGE = 5_000
MOST_ROWS = 1_000_000
WAITING = 100_000
"""Entries of a shard's log that no file holds yet, of which there are few: a courier files them every few seconds."""


@dataclass(frozen=True)
class Belongings:
    """Finds a person's own items. Each call walks through the item store or the decision log: for rare work."""

    items: ItemStore
    log: DecisionLog

    def made_by(self, user_id: str) -> list[ItemRow]:
        """Return the items whose author is a user."""
        return [row for row in self._everything() if row.get("author_id") == user_id]

    def told_only(self, user_id: str, now: float) -> list[ItemRow]:
        """Return the items that urgent requests named, and that were decided for this user and for nobody else."""
        rows = self.log.find(now, user_id=user_id, shard=shard_of(user_id, self.log.shards), limit=MOST_ROWS)
        candidates = set(rows.loc[rows["lane"] == "urgent", "item_id"])
        mine = sorted(candidates - self._told_to_others(user_id, candidates, now))
        return [row for row in self.items.get(mine) if row is not None]

    def _told_to_others(self, user_id: str, item_ids: set[str], now: float) -> set[str]:
        if not item_ids:
            return set()
        recent = unpack([entry for shard in range(self.log.shards) for entry in self.log.stream.read(shard, WAITING)])
        found = set(recent.loc[recent["item_id"].isin(item_ids) & (recent["user_id"] != user_id), "item_id"])
        key = self.log.user_keys.known([user_id])[0]
        where = pc.field("item_id").isin(sorted(item_ids))
        filed: pd.DataFrame = self.log.history.read(TABLE, 0.0, now + 86400, columns=["user_key", "item_id"], where=where)
        return found | set(filed.loc[filed["user_key"] != key, "item_id"])

    def _everything(self) -> Iterator[ItemRow]:
        cursor = ""
        while True:
            changed, following = self.items.changes(cursor)
            for start in range(0, len(changed), PAGE):
                yield from (row for row in self.items.get(changed[start : start + PAGE]) if row is not None)
            if following == cursor or not changed:
                return
            cursor = following
