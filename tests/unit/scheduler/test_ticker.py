"""The ticker: one leads, every due shard is decided once under its own fence, and nothing is held longer than a tick."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from lake.clock import HeldClock
from lake.ids import shard_of
from lake.keys import LEADER
from scheduler.due import MemoryDueIndex
from scheduler.lease import MemoryLeases, shard_lease
from scheduler.report import LaneReport
from scheduler.ticker import TTL_S, ShardWork, Ticker, TickLoop
from scheduler.windows import SLOT_S

SHARDS = 4
NOW = 1_700_000_100.0
SLOT = int(NOW // SLOT_S)
USERS = [f"u{n}" for n in range(40)]


@dataclass
class Shards:
    """Everything tickers share, and a runner that decides by taking users out of the due index."""

    clock: HeldClock = field(default_factory=lambda: HeldClock(NOW))
    due: MemoryDueIndex = field(default_factory=lambda: MemoryDueIndex(SHARDS))
    leases: MemoryLeases = field(default_factory=MemoryLeases)
    runs: list[list[ShardWork]] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    meanwhile: Callable[[Sequence[ShardWork]], object] = lambda _: None

    def ticker(self, owner: str = "one") -> Ticker:
        return Ticker(owner, self.clock, self.due, self.leases, self)

    def run(self, work: Sequence[ShardWork]) -> LaneReport:
        self.runs.append(list(work))
        self.meanwhile(work)
        report = LaneReport()
        for shard in work:
            users, _ = self.due.due(shard.shard, shard.slot, 1000)
            self.decided += users
            self.due.remove(users)
            report.users += len(users)
        return report


@pytest.fixture
def shards() -> Shards:
    """Forty users who are due now, and one who is due in the next slot."""
    made = Shards()
    made.due.enroll(USERS, [SLOT] * len(USERS))
    made.due.enroll(["later"], [SLOT + 1])
    return made


def test_a_tick_decides_everybody_who_is_due_once_and_nobody_else(shards: Shards) -> None:
    report = shards.ticker().tick()
    assert report is not None
    assert report.users == len(USERS)
    assert sorted(shards.decided) == sorted(USERS)
    assert [work.slot for work in shards.runs[0]] == [SLOT] * len({shard_of(user, SHARDS) for user in USERS})


def test_shards_where_nobody_is_due_cost_nothing(shards: Shards) -> None:
    ticker = shards.ticker()
    ticker.tick()
    ticker.tick()
    assert shards.runs[1] == []
    assert shards.leases.token(shard_lease(0)) == 1


def test_users_missed_in_earlier_slots_are_caught_up_with(shards: Shards) -> None:
    shards.clock.at += 3 * SLOT_S
    shards.ticker().tick()
    assert "later" in shards.decided


def test_only_one_of_several_tickers_acts_and_the_others_take_over_when_its_lease_has_run_out(shards: Shards) -> None:
    first, second = shards.ticker("one"), shards.ticker("two")
    assert first.tick() is not None
    assert second.tick() is None
    shards.clock.at += TTL_S + 1
    assert second.tick() is not None
    assert first.tick() is None


def test_a_leader_that_resigns_is_followed_at_once(shards: Shards) -> None:
    first, second = shards.ticker("one"), shards.ticker("two")
    first.tick()
    first.resign()
    assert second.tick() is not None


def test_a_shard_that_another_worker_holds_is_left_to_it(shards: Shards) -> None:
    busy = shard_of(USERS[0], SHARDS)
    shards.leases.acquire(shard_lease(busy), "somebody else", NOW, 60.0)
    shards.ticker().tick()
    assert busy not in {work.shard for work in shards.runs[0]}
    assert USERS[0] not in shards.decided


def test_every_change_of_hands_raises_the_fence(shards: Shards) -> None:
    shards.ticker("one").tick()
    shards.clock.at += TTL_S + SLOT_S
    shards.due.enroll(USERS, [SLOT] * len(USERS))
    shards.ticker("two").tick()
    first, second = ({work.shard: work.fence for work in run} for run in shards.runs)
    assert all(second[shard] > fence for shard, fence in first.items())


def test_shards_are_free_after_a_tick_whether_it_went_well_or_not(shards: Shards) -> None:
    ticker = shards.ticker()

    def fail(_: object) -> None:
        raise ConnectionError("the store is away")

    shards.meanwhile = fail
    with pytest.raises(ConnectionError, match="away"):
        ticker.tick()
    assert all(shards.leases.acquire(shard_lease(shard), "next", NOW, 1.0) for shard in range(SHARDS))
    shards.meanwhile = lambda _: None
    shards.clock.at += 2
    assert ticker.tick() is not None
    assert sorted(shards.decided) == sorted(USERS)


def test_a_heartbeat_keeps_the_leases_of_a_long_tick(shards: Shards) -> None:
    ticker = shards.ticker()

    def last(work: Sequence[ShardWork]) -> None:
        for _ in range(4):
            shards.clock.at += TTL_S - 1
            ticker.heartbeat()
        for each in work:
            assert shards.leases.acquire(shard_lease(each.shard), "two", shards.clock.at, 1.0) is None
        assert shards.leases.acquire(LEADER, "two", shards.clock.at, 1.0) is None

    shards.meanwhile = last
    assert ticker.tick() is not None


def test_a_lease_that_was_lost_is_not_released_under_its_new_holder(shards: Shards) -> None:
    ticker, shard = shards.ticker(), shard_of(USERS[0], SHARDS)

    def stall(_: object) -> None:
        shards.clock.at += TTL_S + 1
        assert shards.leases.acquire(shard_lease(shard), "two", shards.clock.at, 60.0) == 2
        ticker.heartbeat()

    shards.meanwhile = stall
    ticker.tick()
    assert shards.leases.acquire(shard_lease(shard), "three", shards.clock.at, 60.0) is None


def test_a_tick_that_is_under_way_is_not_begun_again(shards: Shards) -> None:
    ticker = shards.ticker()
    inner: list[LaneReport | None] = []
    shards.meanwhile = lambda _: inner.append(ticker.tick())
    assert ticker.tick() is not None
    assert inner == [None]


def test_the_loop_ticks_by_itself_and_gives_up_the_lead_when_it_stops(shards: Shards) -> None:
    ticked = threading.Event()
    shards.meanwhile = lambda _: ticked.set()
    loop = TickLoop(shards.ticker())
    loop.start()
    for job in loop.scheduler.get_jobs():
        if job.id == "watch":
            job.func()
    loop.stop()
    assert ticked.is_set()
    assert sorted(shards.decided) == sorted(USERS)
    assert shards.ticker("next").tick() is not None


def test_the_loop_ticks_at_every_quarter_hour_of_utc() -> None:
    loop = TickLoop(Shards().ticker())
    loop.start()
    try:
        jobs = {job.id: job for job in loop.scheduler.get_jobs()}
        following = jobs["slot"].next_run_time
        assert following.utcoffset().total_seconds() == 0
        assert following.timestamp() % SLOT_S == 0
    finally:
        loop.stop()
