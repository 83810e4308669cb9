"""A scheduler of `tidings bench failover`: a process of its own, whose lane, commit, leases and tick loop are those that serve."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lake.decisions import Candidates, Lane
from lake.items import ItemTable
from scheduler.decide import DecideConfig
from scheduler.lanes import ScheduledLane
from scheduler.local_shards import LocalShards
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.redis_stores import RedisStores
from scheduler.scoring import Scores
from scheduler.sources import NewPosts
from scheduler.ticker import HEARTBEAT_S, TTL_S, Ticker, TickLoop
from scheduler.windows import SLOT_S
from simulation.policies import Random

TOP_N = 2
CHANNEL = "in_app"
STEPPED = "drill:stepped_s"
"""By how much the drill has set the clock, in seconds."""


@dataclass(frozen=True)
class Pace:
    """How fast schedulers follow one another; `ttl_s` as for Ticker, and everything else in the proportion that serves."""

    ttl_s: float = TTL_S

    @property
    def beat_s(self) -> float:
        """Seconds between heartbeats, and between looks at what is due."""
        return self.ttl_s * HEARTBEAT_S / TTL_S

    @property
    def ranking_s(self) -> float:
        """Seconds that ranking a shard takes, a second at the pace that serves: were it nothing, a window could be over before it is
        disturbed as often as it is to be.
        """
        return self.ttl_s / TTL_S

    @property
    def resumed_s(self) -> float:
        """Within how many seconds a failover has to be over: 30 at the pace that serves."""
        return self.ttl_s * 30 / TTL_S


@dataclass(frozen=True)
class SteppedClock:
    """The store's TIME and what the drill has set it by."""

    client: Any

    def now(self) -> float:
        """See Clock."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        pipe.get(STEPPED)
        (seconds, micros), stepped = pipe.execute()
        return float(seconds) + float(micros) / 1e6 + float(stepped or 0)

    def step(self, by_s: float) -> None:
        """Set the clock."""
        self.client.incrbyfloat(STEPPED, by_s)


@dataclass(frozen=True)
class SlowRandom:
    """Ranks by chance, in as long as a ranker might take."""

    chance: Random
    takes_s: float

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """See Scorer."""
        time.sleep(self.takes_s)
        return self.chance(rows, channels, now, lane)


def lane_of(stores: RedisStores, seed: int, pace: Pace) -> ScheduledLane:
    """Return the lane of one scheduler; each ranks by chance of its own, so that no two decisions of a user are alike."""
    config = PipelineConfig(weekly={CHANNEL: 50}, decide=DecideConfig(top_n=TOP_N))
    table, ranker = ItemTable(stores.items), SlowRandom(Random(seed), pace.ranking_s)
    pipeline = Pipeline(stores.meta, stores.profiles, table, stores.seen, stores.ledger, ranker, stores.committer, config=config)
    return ScheduledLane(pipeline, stores.due, (NewPosts(stores.follows),), stores.meta.channel_codes([CHANNEL]))


def work(url: str, number: int, pace: Pace, driver: Connection) -> None:
    """Tick until the driver hangs up; `number` tells the schedulers of a drill apart. Says "ready" once it ticks."""
    logging.disable(logging.CRITICAL)  # a lost lease is what the drill is about
    with threadpool_limits(1):
        stores = RedisStores.open(url)
        clock, lane = SteppedClock(stores.client), lane_of(stores, number, pace)
        ticker = Ticker(owner_of(number), clock, stores.due, stores.leases, LocalShards(lane, clock), ttl_s=pace.ttl_s)
        loop = TickLoop(ticker, pace.beat_s, pace.beat_s)
        loop.start()
        driver.send("ready")
        with suppress(EOFError):
            driver.recv()
        loop.stop()


def owner_of(number: int) -> str:
    """Return the name by which a scheduler holds leases."""
    return f"scheduler-{number}"


def quarters_of(slot: int) -> np.uint16:
    """Return a slot's quarter-hour of the week in UTC; 1970 began on a Thursday."""
    return np.uint16((slot + 3 * 96) % (7 * 86400 // SLOT_S))
