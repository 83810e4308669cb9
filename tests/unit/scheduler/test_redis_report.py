"""The console's counters: written at most once a second, and none left behind when a burst is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from redis import Redis

from lake.keys import Keys
from lake.meta import MAX_CHANNELS, Meta
from lake.metrics import CANDIDATES, LAST_SLOT, WINDOWS, sends_field
from scheduler.redis_report import FLUSH_S, RedisRecorder
from scheduler.report import LaneReport
from tests.integration.waiting import LONG_S, until

META = Meta(shards=2)


@dataclass
class Minder:
    """A clock, and what is to be called later by it."""

    now: float = 100.0
    calls: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def later(self, wait_s: float, call: Callable[[], None]) -> None:
        """Keep a call for its time."""
        self.calls.append((self.now + wait_s, call))

    def pass_(self, seconds: float) -> None:
        """Let time pass, and make the calls whose time has come."""
        self.now += seconds
        due, self.calls = [call for at, call in self.calls if at <= self.now], [pair for pair in self.calls if pair[0] > self.now]
        for call in due:
            call()


def a_report(windows: int = 1) -> LaneReport:
    sends = np.zeros(MAX_CHANNELS, np.int64)
    sends[0] = windows
    return LaneReport(users=windows, candidates=10 * windows, sends_by_channel=sends, slot=1_900_000 + windows)


def counted(client: Redis, name: str) -> int:
    return int(client.hget(META.keys.of_shard(Keys.METRICS, 0), name) or 0)


@pytest.fixture
def minder() -> Minder:
    return Minder()


@pytest.fixture
def record(redis_client: Redis, minder: Minder) -> RedisRecorder:
    return RedisRecorder(redis_client, META, elapsed=lambda: minder.now, later=minder.later)


def test_the_first_report_is_there_at_once(redis_client: Redis, record: RedisRecorder) -> None:
    record("scheduled", a_report())
    assert counted(redis_client, WINDOWS) == 1
    assert counted(redis_client, CANDIDATES) == 10
    assert counted(redis_client, LAST_SLOT) == 1_900_001
    assert counted(redis_client, sends_field("scheduled", META.channels[0])) == 1


def test_the_rest_of_a_burst_is_written_once_when_its_second_is_over(redis_client: Redis, record: RedisRecorder, minder: Minder) -> None:
    for _ in range(5):
        record("scheduled", a_report())
        record("urgent", a_report())
    assert (counted(redis_client, WINDOWS), len(minder.calls)) == (1, 1)
    minder.pass_(FLUSH_S)
    assert counted(redis_client, WINDOWS) == 5
    assert counted(redis_client, CANDIDATES) == 100
    assert not minder.calls


def test_a_burst_that_goes_on_is_written_once_a_second(redis_client: Redis, record: RedisRecorder, minder: Minder) -> None:
    before = redis_client.info("commandstats")["cmdstat_hset"]["calls"] if "cmdstat_hset" in redis_client.info("commandstats") else 0
    for _ in range(40):
        record("scheduled", a_report())
        minder.pass_(FLUSH_S / 8)
    minder.pass_(FLUSH_S)
    assert counted(redis_client, WINDOWS) == 40
    assert redis_client.info("commandstats")["cmdstat_hset"]["calls"] - before == 6


def test_a_store_that_is_away_fails_no_decision(minder: Minder) -> None:
    away = RedisRecorder(Redis(port=1, socket_connect_timeout=0.1), META, elapsed=lambda: minder.now, later=minder.later)
    away("scheduled", a_report())
    away("urgent", a_report())
    minder.pass_(FLUSH_S)
    assert not minder.calls


def test_where_the_process_may_end_any_moment_every_report_is_there_at_once(redis_client: Redis, minder: Minder) -> None:
    record = RedisRecorder(redis_client, META, 0.0, elapsed=lambda: minder.now, later=minder.later)
    for _ in range(3):
        record("scheduled", a_report())
    assert (counted(redis_client, WINDOWS), minder.calls) == (3, [])


def test_by_itself_it_writes_within_moments(redis_client: Redis) -> None:
    record = RedisRecorder(redis_client, META)
    record("scheduled", a_report())
    record("scheduled", a_report(2))
    until(lambda: counted(redis_client, WINDOWS) == 3, LONG_S)
