"""The loop that delivers: leases, shards, failures, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import pytest

from delivery.channels.base import Answer, Delivery, Traits, Transient
from delivery.courier import KEEPERS, Courier, CourierParts, CourierSettings, StalledError
from delivery.outbox import Backlog, Entry, MemoryOutbox, Retry
from lake.clock import HeldClock
from lake.ids import shard_of
from lake.metrics import MemoryMetrics
from tests.unit.delivery.examples import META, NOW, ScriptedChannel, World, a_message
from tests.unit.delivery.simulated import in_simulated_time


@dataclass
class Leases:
    """Leases as the scheduler's, as far as the courier uses them."""

    held: dict[str, tuple[str, float]] = field(default_factory=dict)

    def acquire(self, name: str, owner: str, now: float, ttl_s: float) -> int | None:
        holder, until = self.held.get(name, (owner, now))
        if holder != owner and until > now:
            return None
        self.held[name] = (owner, now + ttl_s)
        return 1

    def release(self, name: str, owner: str, token: int) -> bool:
        return self.held.pop(name, ("", 0.0))[0] == owner


@dataclass
class System:
    """Couriers over one world."""

    world: World = field(default_factory=World)
    leases: Leases = field(default_factory=Leases)
    clock: HeldClock = field(default_factory=lambda: HeldClock(NOW))
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    kept: list[tuple[int, float]] = field(default_factory=list)

    def courier(self, owner: str = "a", **settings: object) -> Courier:
        parts = CourierParts(
            dispatcher=self.world.dispatcher(),
            outbox=self.world.memory,
            leases=self.leases,
            clock=self.clock,
            metrics=self.metrics,
            keys=self.world.meta.keys,
            housekeeping=[lambda shard, now: self.kept.append((shard, now))],
        )
        return Courier(parts, owner, CourierSettings(**settings))  # type: ignore[arg-type]  # the tests name real settings


async def a_round(courier: Courier) -> None:
    await courier.round()
    await courier.settled()


async def test_what_is_granted_is_delivered_and_counted() -> None:
    system = System()
    system.world.enqueue(a_message())
    await a_round(system.courier())
    assert system.world.outcomes() == {a_message().grant_id: "accepted"}
    assert system.metrics.counters["tidings_outcomes_total", (("channel", "email"), ("outcome", "accepted"))] == 1


async def test_only_who_holds_the_lease_delivers_until_it_expires() -> None:
    system = System()
    first, second = system.courier("a"), system.courier("b")
    await a_round(first)
    system.world.enqueue(a_message())
    await a_round(second)
    assert system.world.channel.sent == []
    system.clock.at += 16
    await a_round(second)
    assert len(system.world.channel.sent) == 1


async def test_a_lease_is_kept_while_the_courier_lives() -> None:
    system = System()
    first, second = system.courier("a"), system.courier("b")
    for _ in range(10):
        await a_round(first)
        await a_round(second)
        system.clock.at += 6
    assert {holder for holder, _ in system.leases.held.values()} == {"a"}


async def test_a_courier_takes_no_more_shards_than_it_may() -> None:
    meta = type(META)(shards=8)
    system = System(World(meta=meta))
    await a_round(system.courier("a", most_shards=5))
    await a_round(system.courier("b", most_shards=5))
    holders = [holder for holder, _ in system.leases.held.values()]
    assert (holders.count("a"), holders.count("b")) == (5, 3)


async def test_a_failing_shard_rests_and_does_not_stop_the_others() -> None:
    meta = type(META)(shards=2)
    world = World(meta=meta)
    users = {shard_of(user, 2): user for user in ("u1", "u2", "u3", "u4")}
    messages = [a_message(shard + 1, user_id=users[shard]) for shard in (0, 1)]
    world.enqueue(*messages)
    world.channel.answers[messages[0].grant_id] = RuntimeError("a bug")
    system = System(world)
    courier = system.courier(rest_s=5)
    await a_round(courier)
    assert [record.state for _, record in world.memory.outcomes(1, "", 10)] == ["accepted"]
    world.memory.add(0, [a_message(9, user_id=users[0])])
    await a_round(courier)
    assert world.memory.outcomes(0, "", 10) == []
    system.clock.at += 6
    await a_round(courier)
    assert [record.grant_id for _, record in world.memory.outcomes(0, "", 10)] == [a_message(9).grant_id]


async def test_a_slow_shard_does_not_hold_up_the_others() -> None:
    release = asyncio.Event()

    class SlowFor(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            if any(delivery.message.grant_id == a_message(1).grant_id for delivery in deliveries):
                await release.wait()
            return await super().send(deliveries)

    world = World(SlowFor(), meta=type(META)(shards=2))
    users = {shard_of(user, 2): user for user in ("u1", "u2", "u3", "u4")}
    world.enqueue(a_message(1, user_id=users[0]))
    system = System(world)
    courier = system.courier()
    await courier.round()
    world.enqueue(a_message(2, user_id=users[1]))
    while not world.memory.outcomes(1, "", 10):
        await courier.round()
    assert world.memory.outcomes(0, "", 10) == []
    release.set()
    await courier.settled()
    assert len(world.memory.outcomes(0, "", 10)) == 1


async def test_the_house_is_kept_now_and_then_also_where_nothing_is_sent() -> None:
    system = System()
    courier = system.courier(housekeeping_every_s=10)
    await a_round(courier)
    await a_round(courier)
    system.clock.at += 11
    await a_round(courier)
    assert system.kept == [(0, NOW), (0, NOW + 11)]


async def test_keeping_the_house_holds_up_nobodys_messages_and_failing_at_it_neither() -> None:
    system, filed = System(), threading.Event()

    def files(shard: int, now: float) -> None:
        filed.wait(10)
        raise RuntimeError("the disk is full")

    parts = replace(system.courier()._parts, housekeeping=[files])
    courier = Courier(parts, "a", CourierSettings(shards_at_once=1, housekeeping_every_s=10))
    await courier.round()
    system.world.enqueue(a_message(1))
    for _ in range(100):
        await courier.round()
        await asyncio.sleep(0.001)
    states = list(system.world.outcomes().values())
    filed.set()
    await courier.settled()
    assert states == ["accepted"]
    system.world.enqueue(a_message(2))
    await a_round(courier)
    assert list(system.world.outcomes().values()) == ["accepted"] * 2


async def test_who_stops_keeps_no_house_that_was_only_waiting_for_it() -> None:
    system = System(World(meta=type(META)(shards=8)))
    filed = threading.Event()
    kept: list[int] = []

    def files(shard: int, now: float) -> None:
        kept.append(shard)
        filed.wait(10)

    courier = Courier(replace(system.courier()._parts, housekeeping=[files]), "a", CourierSettings())
    await courier.round()
    await asyncio.sleep(0.01)
    courier.stop()
    filed.set()
    await courier.run()
    assert len(kept) == KEEPERS
    assert system.leases.held == {}


async def test_a_shard_that_has_waited_for_its_turn_is_drained_at_the_time_it_is_by_then() -> None:
    release = asyncio.Event()

    class Slow(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            await release.wait()
            return await super().send(deliveries)

    world = World(Slow(traits=Traits(local=True)), meta=type(META)(shards=2))
    users = {shard_of(user, 2): user for user in ("u1", "u2", "u3", "u4")}
    world.enqueue(a_message(1, user_id=users[0]), a_message(2, user_id=users[1], deliver_by=NOW + 50))
    system = System(world)
    courier = system.courier(shards_at_once=1)
    await courier.round()
    system.clock.at += 100
    release.set()
    await courier.settled()
    assert [record.state for _, record in world.memory.outcomes(1, "", 10)] == ["expired"]


async def test_the_backlog_is_reported() -> None:
    system = System()
    system.world.enqueue(a_message(1), a_message(2))
    system.world.channel.answers[a_message(1).grant_id] = Transient("later", retry_after_s=600)
    courier = system.courier()
    await a_round(courier)
    await a_round(courier)
    assert system.metrics.gauges["tidings_outbox_backlog", ()] == 1


@in_simulated_time
async def test_what_waits_for_its_time_does_not_keep_the_courier_busy() -> None:
    reads = 0

    class Counted(MemoryOutbox):
        def read(self, shard: int, consumer: str, count: int, now: float, abandoned_after_ms: int) -> list[Entry]:
            nonlocal reads
            reads += 1
            return super().read(shard, consumer, count, now, abandoned_after_ms)

    system = System(World(memory=Counted()))
    system.world.enqueue(a_message(1))
    system.world.channel.answers[a_message(1).grant_id] = Transient("later", retry_after_s=600)
    courier = system.courier(idle_s=0.05)
    working = asyncio.create_task(courier.run())
    await asyncio.sleep(0.5)
    courier.stop()
    await working
    assert reads == 1


async def test_stopping_finishes_what_is_under_way_puts_back_the_rest_and_gives_up_the_leases() -> None:
    system = System()
    sending, release = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            sending.set()
            await release.wait()
            return await super().send(deliveries)

    channel = Slow()
    system.world = World(channel)
    system.world.enqueue(*(a_message(number) for number in range(1, 41)))
    courier = system.courier()
    running = asyncio.create_task(courier.run())
    await sending.wait()
    courier.stop()
    release.set()
    await running
    (backlog,) = system.world.memory.backlog([0])
    assert len(channel.sent) == len(system.world.outcomes()) == 20
    assert backlog == Backlog(retrying=20)
    assert (system.leases.held, channel.closed) == ({}, True)


async def test_a_shard_whose_messages_wait_for_the_morning_is_not_read_meanwhile() -> None:
    system = System()
    system.world.enqueue(a_message(1))
    shard, memory = shard_of(a_message(1).user_id, META.shards), system.world.memory
    (entry,) = memory.read(shard, "somebody", 9, NOW, 1000)
    memory.retry_later(shard, [Retry(entry, NOW + 600)])
    courier = system.courier()
    with patch.object(memory, "read", wraps=memory.read) as read:
        await courier.round()
        await courier.settled()
        assert not read.called
        system.clock.at = NOW + 600
        await courier.round()
        await courier.settled()
    assert [record.state for _, record in memory.outcomes(shard, "", 9)] == ["accepted"]


async def test_it_delivers_while_it_runs_and_outlives_a_store_that_is_away() -> None:
    system = System()

    class Flaky(MemoryOutbox):
        failures = 3

        def backlog(self, shards: Sequence[int], now: float = math.inf) -> list[Backlog]:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("no store")
            return super().backlog(shards, now)

    class Rings(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            sent.set()
            return await super().send(deliveries)

    sent = asyncio.Event()
    system.world = World(Rings(), memory=Flaky())
    system.world.enqueue(a_message())
    courier = system.courier(rest_s=0.001, idle_s=0.001)
    running = asyncio.create_task(courier.run())
    await sent.wait()
    courier.stop()
    await running
    assert system.world.outcomes() == {a_message().grant_id: "accepted"}


async def test_a_courier_that_gets_nothing_done_is_not_healthy() -> None:
    system = System()
    courier = system.courier(stalled_after_s=0.0)
    with pytest.raises(StalledError, match="courier a has not completed a round"):
        courier.check()
    system.courier(stalled_after_s=60.0).check()
