"""Whatever providers, the store and couriers do, each message ends once, is sent at most once, and waits for nothing for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from delivery.backoff import Backoff
from delivery.channels.base import Accepted, Answer, Channel, Delivery, Permanent, Traits, Transient, Unknown
from delivery.courier import Courier, CourierParts, CourierSettings
from delivery.outbox import Entry, MemoryOutbox, Outcome, Retry
from delivery.turn import DispatchSettings
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from tests.unit.delivery.examples import NOW, World, a_message
from tests.unit.delivery.simulated import SimulatedLoop, no_threads
from tests.unit.delivery.test_courier import Leases

SHARDS, BUSY_S, QUIET_S = 3, 300, 400
CHANNELS = ("email", "push")


class _Loop(SimulatedLoop):
    def now(self) -> float:
        return NOW + self.time()


@dataclass
class Moody:
    """A provider that answers, dawdles, hangs for some, is silent, refuses or fails, for some seconds each."""

    name: str
    chance: random.Random
    traits: Traits = Traits(batch=2, concurrency=4)
    taken: Counter[str] = field(default_factory=Counter)
    moods: list[str] = field(default_factory=list)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        mood = self.moods[int(asyncio.get_running_loop().time() // 20)] if asyncio.get_running_loop().time() < BUSY_S else "well"
        hangs_s = 15.0 if mood == "uneven" and self.chance.random() < 0.3 else 0.01
        await asyncio.sleep({"well": 0.05, "steady": 0.6, "slow": 3.0, "silent": 20.0}.get(mood, hangs_s))
        answers: list[Answer] = [self._answer(mood) for _ in deliveries]
        self.taken.update(
            delivery.message.grant_id for delivery, answer in zip(deliveries, answers, strict=True) if isinstance(answer, Accepted)
        )
        return answers

    def _answer(self, mood: str) -> Answer:
        answers: dict[str, list[Answer]] = {
            "silent": [Unknown("no answer", down=True), Transient("no connection", down=True)],
            "refuses": [Transient("refused", down=True)],
            "mixed": [Accepted(), Accepted(), Transient("busy", retry_after_s=7.0), Permanent("no"), Unknown("?")],
        }
        return self.chance.choice(answers.get(mood, [Accepted()]))

    async def close(self) -> None:
        """See Channel."""


@dataclass
class Shaky(MemoryOutbox):
    """An outbox whose store now and then does not hear, or is not heard."""

    chance: random.Random = field(default_factory=random.Random)
    share: float = 0.0

    def _either(self, call: Callable[[], Any]) -> Any:
        if self.chance.random() < self.share / 2:
            raise ConnectionError("not heard")
        answer = call()
        if self.chance.random() < self.share / 2:
            raise ConnectionError("no answer")
        return answer

    def read(self, shard: int, consumer: str, count: int, now: float, abandoned_after_ms: int) -> list[Entry]:
        return list(self._either(lambda: super(Shaky, self).read(shard, consumer, count, now, abandoned_after_ms)))

    def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        return list(self._either(lambda: super(Shaky, self).attempt(shard, consumer, entries, now)))

    def settle(self, shard: int, outcomes: Sequence[Outcome], now: float) -> list[bool]:
        return list(self._either(lambda: super(Shaky, self).settle(shard, outcomes, now)))

    def retry_later(self, shard: int, retries: Sequence[Retry]) -> list[bool]:
        return list(self._either(lambda: super(Shaky, self).retry_later(shard, retries)))


class Simulation:
    """Two couriers, one of which is now and then stopped or dies, and what they are given to do for some minutes."""

    def __init__(self, loop: _Loop, seed: int, shaky: float) -> None:
        self.loop, self.chance = loop, random.Random(seed)
        moods = ["well", "steady", "slow", "silent", "uneven", "refuses", "mixed"]
        self.providers = [Moody(name, self.chance, moods=self.chance.choices(moods, k=BUSY_S // 20)) for name in CHANNELS]
        self.outbox = Shaky(chance=self.chance, share=shaky)
        settings = DispatchSettings(batch=self.chance.choice([10, 60]), look=5, waves=3, backoff=Backoff(5, first_s=2.0, longest_s=20.0))
        channels: dict[str, Channel] = {provider.name: provider for provider in self.providers}
        self.world = World(channels=channels, memory=self.outbox, settings=settings, meta=Meta(shards=SHARDS), stopwatch=loop.time)
        self.leases, self.granted = Leases(), 0
        self.running: list[tuple[Courier, asyncio.Task[None]]] = []

    def start(self) -> None:
        """Have one more courier."""
        parts = CourierParts(self.world.dispatcher(), self.outbox, self.leases, self.loop, MemoryMetrics(), self.world.meta.keys)
        courier = Courier(parts, f"courier {self.granted}-{len(self.running)}", CourierSettings(shards_at_once=2))
        self.running.append((courier, self.loop.create_task(courier.run())))

    async def busy(self) -> None:
        """Grant messages, and stop or kill couriers."""
        for _ in range(BUSY_S):
            for _ in range(self.chance.choice([0, 0, 1, 10])):
                self.granted += 1
                lane, lasts_s = self.chance.choice(["scheduled", "urgent"]), self.chance.choice([5.0, 60.0, float("inf")])
                user, channel = f"u{self.granted}", self.chance.choice(CHANNELS)
                self.world.enqueue(a_message(self.granted, user_id=user, channel=channel, lane=lane, deliver_by=self.loop.now() + lasts_s))
            if self.chance.random() < 0.02:
                courier, task = self.running.pop(0)
                courier.stop()
                if self.chance.random() < 0.5:
                    for each in (task, *courier._state.tasks):
                        each.cancel()
                self.start()
            await asyncio.sleep(1)
        self.outbox.share = 0.0

    async def run(self) -> None:
        self.start()
        self.start()
        await self.busy()
        await asyncio.sleep(QUIET_S)
        for courier, _ in self.running:
            courier.stop()
        await asyncio.wait([task for _, task in self.running])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shaky", [0.0, 0.02])
def test_each_message_ends_once_and_is_sent_at_most_once(seed: int, shaky: float) -> None:
    loop = _Loop()
    simulation = Simulation(loop, seed, shaky)
    with no_threads():
        loop.run_until_complete(simulation.run())
    loop.close()
    records = [record for shard in range(SHARDS) for _, record in simulation.outbox.outcomes(shard, "", 1_000_000)]
    sent = sum((provider.taken for provider in simulation.providers), Counter[str]())
    assert Counter(record.grant_id for record in records) == Counter({a_message(n + 1).grant_id: 1 for n in range(simulation.granted)})
    assert set(sent.values()) == {1}
    accepted = {record.grant_id for record in records if record.state == "accepted"}
    unsure = {record.grant_id for record in records if record.state == "unknown"}
    assert accepted <= sent.keys() <= accepted | unsure
    assert all(attempt.at <= record.at for record in records for attempt in record.tried)
