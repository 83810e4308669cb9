"""Hours of traffic that are much alike: each brings items of its own to the same people, who are all due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lake.items import rows_of_frame
from lake.profiles import blank
from ranking.blocks import ITEM_COUNTS
from ranking.redis_features import RedisFeatureStore
from ranking.rows import Records
from scheduler.windows import SLOT_S, windows_due_of
from tests.integration.conftest import SmallWorld
from tests.integration.systems import Running

HOUR_S = 3600.0
YOUNG_S = 3 * 86400.0


@dataclass
class Hours:
    """Hours of a running system, ticked by hand. `items`, `counts`: what each of them brings, as old and as much read as it was when the
    history ended.
    """

    running: Running
    users: list[str]
    items: list[dict[str, Any]]
    end_at: float
    tick: Callable[[], dict[str, Any] | None]
    slot: int
    counts: Records
    brought: list[str] = field(default_factory=list)

    @property
    def features(self) -> RedisFeatureStore:
        """The state that rankers read."""
        return RedisFeatureStore(self.running.stores.client, self.running.stores.meta.keys)

    def pass_one(self) -> int:
        """Let an hour pass and decide everybody; returns how much was sent."""
        stores = self.running.stores
        self.slot += int(HOUR_S // SLOT_S)
        now = self.slot * SLOT_S
        stores.items.delete(self.brought)
        anew = [
            item | {"item_id": f"{item['item_id']}@{self.slot}", "created_at": now - self.end_at + item["created_at"]}
            for item in self.items
        ]
        stores.items.put(anew)
        self.brought = [item["item_id"] for item in anew]
        counts = self.counts.copy()
        counts["counts"][:, ITEM_COUNTS.index("last_at")] += now - self.end_at
        self.features.put_items(self.brought, counts, [np.zeros(0, np.uint64)] * len(counts))
        rows = blank(len(self.users))
        rows["zone"] = b"UTC"
        rows["windows"][:, 0] = (self.slot + 3 * 96) % 672  # the quarter-hour of the week; 1970 began on a Thursday
        assert (windows_due_of(rows[:1], self.slot) >= 0).all()
        stores.profiles.put(self.users, rows)
        stores.due.enroll(self.users, np.full(len(self.users), self.slot))
        stores.clock.hold(now)
        report = self.tick()
        assert report is not None
        assert report["users"] >= len(self.users)
        return int(report["sends"])

    def decided(self, since: int) -> pd.DataFrame:
        """Return the scheduled rows of the hours from a slot on."""
        rows = self.running.decisions()
        return rows[(rows["lane"] == "scheduled") & (rows["at"] >= pd.Timestamp(since * SLOT_S, unit="s", tz="UTC"))]


@contextmanager
def hours(running: Running, world: SmallWorld) -> Iterator[Hours]:
    """Yield the hours after a system's present, whose items are those that were young when the world's history ended."""
    table = world.history.items
    young = table[table["created_at"] >= pd.Timestamp(world.end_at - YOUNG_S, unit="s", tz="UTC")]
    items = [
        {name: value for name, value in row.items() if name not in ("entity_id", "version", "expires_at")} for row in rows_of_frame(young)
    ]
    stores = running.stores
    counts = RedisFeatureStore(stores.client, stores.meta.keys).get([], [item["item_id"] for item in items]).items
    with running.ticks() as tick:
        yield Hours(running, world.users, items, world.end_at, tick, int(stores.clock.now() // SLOT_S), counts)
