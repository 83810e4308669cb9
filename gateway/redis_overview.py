"""The console's numbers, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from redis import Redis

from budgets.allowance import weekly_budget
from budgets.redis_ledger import RedisLedger
from delivery.redis_outbox import RedisOutbox
from gateway.console import Overview, budget_use, overview_of
from lake.keys import Keys
from lake.meta import Meta
from lake.redis_alarms import RedisAlarms
from lake.redis_profiles import RedisProfileStore

SAMPLE = 1_000
"""Users whose ledgers are read for the budget use: its standard error is then about a point."""
FRESH_S = 1.0
"""Pages poll every two seconds; however many are open, the store is asked once a second."""


@dataclass
class RedisOverview:
    """Reads the overview; call it with the time. `default_weekly`: uint8 (channels,), the deployment's budgets."""

    client: Redis
    meta: Meta
    default_weekly: npt.NDArray[np.uint8]
    _last: Overview = field(default_factory=Overview)

    def __call__(self, now: float) -> Overview:
        """Return the overview at `now`, at most a second old."""
        if not 0.0 <= now - self._last.at < FRESH_S:
            self._last = self._read(now)
        return self._last

    def _read(self, now: float) -> Overview:
        shards = range(self.meta.shards)
        pipe = self.client.pipeline(transaction=False)
        for shard in shards:
            pipe.hgetall(self.meta.keys.of_shard(Keys.METRICS, shard))
        counters = [{name.decode(): value.decode() for name, value in shard.items()} for shard in pipe.execute()]
        backlog = RedisOutbox(self.client, self.meta.keys).backlog(list(shards))
        found = overview_of(counters, at=now, outbox_backlog=sum(each.total for each in backlog), budget_use=self._budget_use(now))
        return replace(found, alarms=[alarm.text for alarm in RedisAlarms(self.client).ringing(now).values()])

    def _budget_use(self, now: float) -> dict[str, float]:
        users = self._sample()
        if not users:
            return {}
        profiles = RedisProfileStore(self.client, self.meta.keys).get(users)
        weekly = weekly_budget(profiles["budget"], self.default_weekly, profiles["dial"], profiles["learned"])
        return budget_use(RedisLedger(self.client, self.meta.keys).read(users), weekly, self.meta.channels, now)

    def _sample(self) -> list[str]:
        """Return users drawn at random from those who have a next window; every shard gives the same number."""
        pipe = self.client.pipeline(transaction=False)
        for shard in range(self.meta.shards):
            pipe.zrandmember(self.meta.keys.of_shard(Keys.DUE, shard), -(-SAMPLE // self.meta.shards))
        drawn: Sequence[list[bytes]] = pipe.execute()
        return [user.decode() for users in drawn for user in users]
