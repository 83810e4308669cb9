"""The loop that opens windows: one tick per 15-minute slot, led by whoever holds the lease, resumed by whoever comes next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from lake.clock import Clock
from lake.keys import LEADER
from scheduler.due import DueIndex
from scheduler.lease import Leases, shard_lease
from scheduler.report import LaneReport
from scheduler.windows import SLOT_S

log = logging.getLogger(__name__)

TTL_S = 20.0
"""How long a lease outlives its last heartbeat: a killed leader's work is resumed within this and one watch."""

WATCH_S = 5
HEARTBEAT_S = 5


@dataclass(frozen=True)
class ShardWork:
    """One shard to decide at one slot, under the fencing token of its lease."""

    shard: int
    slot: int
    fence: int


class ShardRunner(Protocol):
    """Decides shards somewhere. Blocks until all are done; a shard that failed is logged, and stays due."""

    def run(self, work: Sequence[ShardWork]) -> LaneReport:
        """Decide the given shards and return their reports added up."""
        ...


Daily = Callable[[float], object]
"""What the leader does once a day, at a time (seconds): nothing that must be exact, it may happen twice or be missed."""


def nothing_daily(now: float) -> None:
    """Do nothing at all."""


@dataclass
class Ticker:
    """Runs ticks. Several may live; the one with the leader lease acts, the others stand by.

    `ttl_s`: how long leases outlive a heartbeat.
    """

    owner: str
    clock: Clock
    due: DueIndex
    leases: Leases
    runner: ShardRunner
    daily: Daily = nothing_daily
    ttl_s: float = TTL_S
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[str, int] = field(default_factory=dict)

    def tick(self) -> LaneReport | None:
        """Decide every user who is due now. Returns None where another ticker leads or this one is still at it."""
        if not self._busy.acquire(blocking=False):
            return None
        try:
            now = self.clock.now()
            if not self._take(LEADER, now):
                return None
            slot = int(now // SLOT_S)
            return self.runner.run(self._claimed(slot, now))
        finally:
            try:
                self._let_go()
            finally:
                self._busy.release()

    def every_day(self) -> bool:
        """Do the day's work, if this ticker leads; returns whether it does."""
        now = self.clock.now()
        if self.leases.acquire(LEADER, self.owner, now, self.ttl_s) is None:
            return False
        self.daily(now)
        return True

    def heartbeat(self) -> None:
        """Renew the leases of a tick that is under way; the commit refuses the work of one that was lost."""
        now = self.clock.now()
        for name, token in list(self._held.items()):
            if not self.leases.renew(name, self.owner, token, now, self.ttl_s):
                log.warning("lost the lease %s: another scheduler has taken over", name)
                self._held.pop(name, None)

    def resign(self) -> None:
        """Give up the lead at once, so that a standby need not wait for the lease to expire."""
        for name in list(self._held):
            self.leases.release(name, self.owner, self._held.pop(name))

    def _claimed(self, slot: int, now: float) -> list[ShardWork]:
        """Lease every shard that has users due; a shard that another worker holds is left to it."""
        due = [shard for shard, waiting in enumerate(self.due.counts(slot).tolist()) if waiting]
        mine = [shard for shard in due if self._take(shard_lease(shard), now)]
        return [ShardWork(shard, slot, self._held[shard_lease(shard)]) for shard in mine]

    def _take(self, name: str, now: float) -> bool:
        token = self.leases.acquire(name, self.owner, now, self.ttl_s)
        if token is not None:
            self._held[name] = token
        return token is not None

    def _let_go(self) -> None:
        """Release the shards; the leader lease is kept, so that one scheduler leads for as long as it lives."""
        for name in [name for name in self._held if name != LEADER]:
            self.leases.release(name, self.owner, self._held.pop(name))


@dataclass
class TickLoop:
    """Calls a ticker at every slot, and every few seconds in between to resume what a dead leader left behind."""

    ticker: Ticker
    watch_s: float = WATCH_S
    heartbeat_s: float = HEARTBEAT_S
    scheduler: BackgroundScheduler = field(default_factory=lambda: BackgroundScheduler(timezone="UTC"))

    def start(self) -> None:
        """Start the loop in a background thread."""
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        self.scheduler.add_job(self.ticker.tick, CronTrigger(minute="*/15", timezone="UTC"), id="slot", **options)
        self.scheduler.add_job(self.ticker.tick, IntervalTrigger(seconds=self.watch_s, timezone="UTC"), id="watch", **options)
        self.scheduler.add_job(self.ticker.heartbeat, IntervalTrigger(seconds=self.heartbeat_s, timezone="UTC"), id="heartbeat", **options)
        self.scheduler.add_job(self.ticker.every_day, CronTrigger(hour=3, minute=20, timezone="UTC"), id="daily", **options)
        self.scheduler.start()

    def stop(self) -> None:
        """Stop ticking and wait for a running tick; what is still due stays due."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=True)
        self.ticker.resign()
