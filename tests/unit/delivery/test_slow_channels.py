"""A provider that does not answer keeps nobody but its own messages waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from delivery.backoff import Backoff
from delivery.breaker import TRYING_S
from delivery.channels.base import Answer, Delivery, Traits, Transient, Unknown
from delivery.courier import Courier
from delivery.outbox import Backlog, Entry
from delivery.turn import DispatchSettings
from delivery.underway import LEAST_S, MOST_S, SHARE, TURNS, UNKNOWN_S, Busy, Line, Pace, Queue, Underway
from lake.messages import Message
from lake.meta import Meta
from lake.profiles import Profiles
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message
from tests.unit.delivery.simulated import in_simulated_time, stopwatch
from tests.unit.delivery.test_courier import System

WAVE = 2


@dataclass
class Silent(ScriptedChannel):
    """A channel whose provider answers nobody until it is let."""

    traits: Traits = Traits(batch=1, concurrency=WAVE)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    takes_s: float = 0.0

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        self.asked += len(deliveries)
        await self.answering.wait()
        await asyncio.sleep(self.takes_s)
        return await super().send(deliveries)


@dataclass
class Steady(ScriptedChannel):
    """A channel whose provider takes longer than our patience, each time."""

    traits: Traits = Traits(batch=1, concurrency=WAVE)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        await asyncio.sleep(0.03)
        return await super().send(deliveries)


@dataclass
class Uneven(ScriptedChannel):
    """A channel of endpoints of users' own, some of which hang: `hanging` answer after `hangs_s`."""

    traits: Traits = Traits(batch=1, concurrency=8)
    hanging: frozenset[str] = frozenset()
    hangs_s: float = 20.0
    asked: int = 0
    most_asked: int = 0

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        self.asked += 1
        self.most_asked = max(self.asked, self.most_asked)
        await asyncio.sleep(self.hangs_s if deliveries[0].message.user_id in self.hanging else 0.01)
        self.asked -= 1
        return await super().send(deliveries)


HASTY = DispatchSettings(backoff=Backoff(max_attempts=3), patience_s=0.01)


class Crowd:
    """E-mail is silent while push answers; one shard, and one drain at a time."""

    def __init__(self, settings: DispatchSettings = HASTY, *, shards: int = 1, shards_at_once: int = 1, idle_s: float = 0.1) -> None:
        self.email, self.push = Silent(), ScriptedChannel("push")
        meta = Meta(shards=shards)
        self.world = World(self.email, channels={"push": self.push}, settings=settings, meta=meta, stopwatch=stopwatch)
        self.system = System(self.world)
        self.courier: Courier = self.system.courier(shards_at_once=shards_at_once, idle_s=idle_s)

    def enqueue(self, channel: str, grants: Sequence[int]) -> None:
        self.world.enqueue(*(a_message(grant, user_id=f"u{grant}", channel=channel) for grant in grants))

    async def sent_by_push(self, messages: int) -> None:
        """Go round until push has sent so many messages, and that is recorded."""
        for _ in range(500):
            if len(self.push.sent) >= messages and self.recorded() >= {each.message.grant_id for each in self.push.sent}:
                return
            await self.courier.round()
            await asyncio.sleep(0.005)
        pytest.fail(f"push has sent {len(self.push.sent)} of {messages} messages")

    async def refused(self) -> None:
        """Have e-mail refuse its first three messages, and rest."""
        self.email.answers = {a_message(grant).grant_id: Transient("no connection", down=True) for grant in range(1, 4)}
        self.email.answering.set()
        self.enqueue("email", range(1, 4))
        while self.email.asked < 3:
            await self.courier.round()
            await self.courier.settled()
            self.system.clock.at += 2

    def recorded(self) -> set[str]:
        """Return which grants have ended."""
        memory = self.world.memory
        return {record.grant_id for shard in range(self.world.meta.shards) for _, record in memory.outcomes(shard, "", 1000)}

    def states(self) -> dict[str, int]:
        found = list(self.world.outcomes().values())
        return {state: found.count(state) for state in set(found)}


@in_simulated_time
async def test_the_others_of_its_shard_go_on_and_it_is_asked_for_no_more_than_it_has_in_hand() -> None:
    crowd = Crowd()
    crowd.enqueue("email", range(1, 6))
    crowd.enqueue("push", range(11, 14))
    await crowd.sent_by_push(3)
    crowd.enqueue("push", range(14, 20))
    crowd.enqueue("email", range(6, 10))
    await crowd.sent_by_push(9)
    assert crowd.email.asked == WAVE
    assert crowd.states() == {"accepted": 9}
    crowd.email.answering.set()
    await crowd.courier.settled()
    assert crowd.states() == {"accepted": 9 + WAVE}
    crowd.system.clock.at += 31
    while crowd.world.memory.backlog([0])[0].total:
        await crowd.courier.round()
        await crowd.courier.settled()
    assert crowd.states() == {"accepted": 9 + 9}
    assert sorted(each.message.grant_id for each in crowd.email.sent) == [a_message(grant).grant_id for grant in range(1, 10)]
    accepted = {
        channel: crowd.system.metrics.counters["tidings_outcomes_total", (("channel", channel), ("outcome", "accepted"))]
        for channel in ("email", "push")
    }
    assert accepted == {"email": 9, "push": 9}


@in_simulated_time
async def test_what_is_put_back_meanwhile_has_used_up_no_attempt_and_expires_in_time() -> None:
    crowd = Crowd()
    brief: Message = a_message(9, user_id="u9", deliver_by=NOW + 5)
    crowd.enqueue("email", range(1, WAVE + 1))
    crowd.enqueue("push", [11])
    await crowd.sent_by_push(1)
    crowd.world.enqueue(brief, a_message(8, user_id="u8"))
    crowd.enqueue("push", [12])
    await crowd.sent_by_push(2)
    assert crowd.world.memory.backlog([0]) == [Backlog(in_hand=WAVE, retrying=2)]
    crowd.email.answering.set()
    await crowd.courier.settled()
    crowd.system.clock.at += 6
    await crowd.courier.round()
    await crowd.courier.settled()
    assert crowd.world.outcomes()[brief.grant_id] == "expired"
    crowd.system.clock.at += 25
    await crowd.courier.round()
    await crowd.courier.settled()
    (last,) = [record for _, record in crowd.world.memory.outcomes(0, "", 99) if record.grant_id == a_message(8).grant_id]
    assert (last.state, last.attempts) == ("accepted", 1)


@in_simulated_time
async def test_what_comes_for_a_provider_that_is_slow_and_steady_reaches_it_in_time() -> None:
    steady = Steady()
    world = World(steady, settings=DispatchSettings(backoff=Backoff(max_attempts=3), patience_s=0.01))
    system = System(world)
    courier = system.courier()
    for grant in range(1, 31):
        world.enqueue(a_message(grant, user_id=f"u{grant}", deliver_by=system.clock.at + 20))
        await courier.round()
        system.clock.at += 0.5
        await asyncio.sleep(0.005)
    while world.memory.backlog([0])[0].total:
        await courier.round()
        await courier.settled()
        system.clock.at += 0.5
    assert list(world.outcomes().values()) == ["accepted"] * 30


@in_simulated_time
async def test_what_is_put_back_behind_a_slow_wave_goes_before_what_was_granted_later() -> None:
    steady = Steady()
    world = World(steady, settings=HASTY)
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(10 - number, granted_at=NOW - 60 + number) for number in range(4)))
    await dispatcher.drain(0, "a", NOW)
    world.enqueue(a_message(1, granted_at=NOW - 1))
    for _ in range(2):
        await dispatcher.drain(0, "a", NOW)
    assert [each.message.granted_at - NOW for each in steady.sent] == [-60, -59, -58, -57, -1]


@in_simulated_time
async def test_what_joins_a_queue_on_its_way_keeps_neither_its_drain_nor_the_courier_awake() -> None:
    silent, let_go = Silent(), asyncio.Event()
    world = World(silent, settings=replace(HASTY, apart_s=0.01, patience_s=60.0))
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(number) for number in range(1, 6)))
    drain = asyncio.create_task(dispatcher.drain(0, "a", NOW, let_go.set))
    await let_go.wait()
    world.enqueue(a_message(6))
    assert (await dispatcher.drain(0, "a", NOW)).taken == 0
    silent.answering.set()
    assert (await drain).count("accepted") == 6


@in_simulated_time
async def test_what_comes_behind_a_backlog_does_not_wait_until_the_courier_has_rested_over_each_part_of_it() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0, batch=10), idle_s=0.5)
    crowd.enqueue("email", range(1, 101))
    crowd.enqueue("push", [101])
    running = asyncio.create_task(crowd.courier.run())
    await asyncio.sleep(1.5)  # one rest, after which the first ten go on by themselves, and not ten
    crowd.courier.stop()
    crowd.email.answering.set()
    await running
    assert len(crowd.push.sent) == 1


@in_simulated_time
async def test_what_a_slow_provider_has_in_hand_is_not_taken_for_abandoned_however_long_it_takes() -> None:
    crowd = Crowd(replace(HASTY, abandoned_after_s=0.0))
    crowd.enqueue("email", range(1, WAVE + 1))
    crowd.enqueue("push", [11])
    await crowd.sent_by_push(1)
    crowd.enqueue("push", [12])
    await crowd.sent_by_push(2)
    assert crowd.states() == {"accepted": 2}
    crowd.email.answering.set()
    await crowd.courier.settled()
    assert crowd.states() == {"accepted": 2 + WAVE}
    assert crowd.email.asked == WAVE


@in_simulated_time
async def test_a_courier_that_stops_waits_for_what_a_slow_provider_has_in_hand_and_puts_back_the_rest() -> None:
    crowd = Crowd()
    crowd.enqueue("email", range(1, 6))
    crowd.enqueue("push", [11])
    await crowd.sent_by_push(1)
    crowd.enqueue("push", [12])
    await crowd.sent_by_push(2)
    crowd.courier.stop()
    working = asyncio.create_task(crowd.courier.run())
    await asyncio.sleep(0.05)
    assert not working.done()
    crowd.email.answering.set()
    await working
    assert crowd.states() == {"accepted": 2 + WAVE}
    assert crowd.world.memory.backlog([0]) == [Backlog(retrying=3)]
    assert crowd.email.closed


@in_simulated_time
async def test_what_a_silent_provider_has_in_hand_does_not_grow_with_the_shards() -> None:
    crowd = Crowd(replace(HASTY, waves=3), shards=24, shards_at_once=2)
    crowd.enqueue("email", range(1, 400))
    crowd.enqueue("push", range(1001, 1200))
    await crowd.sent_by_push(199)
    crowd.enqueue("push", range(2001, 2100))
    await crowd.sent_by_push(298)
    assert crowd.email.asked <= WAVE * 3
    crowd.email.answering.set()
    while sum(each.total for each in crowd.world.memory.backlog(range(24))):
        await crowd.courier.round()
        await crowd.courier.settled()
        crowd.system.clock.at += 5
    assert sorted(each.message.grant_id for each in crowd.email.sent) == [a_message(grant).grant_id for grant in range(1, 400)]


@in_simulated_time
async def test_a_provider_that_takes_its_time_is_neither_waited_for_nor_left_alone() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0, batch=25))
    crowd.email.answering.set()
    crowd.email.takes_s = 0.05
    crowd.enqueue("email", range(1, 21))
    crowd.enqueue("push", range(101, 104))
    await crowd.sent_by_push(3)
    crowd.enqueue("push", range(104, 110))
    crowd.enqueue("email", range(21, 37))
    await crowd.sent_by_push(9)
    assert len(crowd.email.sent) < 10
    put_aside = crowd.world.memory.backlog([0])[0].retrying
    assert 36 - 25 - 10 <= put_aside <= 16 - 5
    await crowd.courier.settled()
    assert crowd.states() == {"accepted": 36 - put_aside + 9}
    crowd.system.clock.at += MOST_S
    await crowd.courier.round()
    await crowd.courier.settled()
    assert crowd.states() == {"accepted": 36 + 9}


@in_simulated_time
async def test_what_may_not_wait_lets_nothing_else_in_behind_a_queue_that_has_enough_in_hand() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0, batch=4))
    crowd.enqueue("email", range(1, 5))
    crowd.enqueue("push", [101])
    for number in range(5):
        await crowd.sent_by_push(number + 1)
        crowd.world.enqueue(a_message(50 + number, user_id=f"u{50 + number}", deliver_by=NOW - 1))
        crowd.enqueue("email", range(10 * number + 201, 10 * number + 204))
        crowd.enqueue("push", [102 + number])
    await crowd.sent_by_push(6)
    assert crowd.world.memory.backlog([0]) == [Backlog(in_hand=4, retrying=15)]
    assert crowd.states() == {"accepted": 6, "expired": 5}
    crowd.email.answering.set()
    await crowd.courier.settled()


@in_simulated_time
async def test_what_is_urgent_does_not_wait_behind_what_is_not_on_the_same_channel() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0))
    crowd.email.answering.set()
    crowd.email.takes_s = 0.05
    crowd.enqueue("email", range(1, 41))
    crowd.enqueue("push", [101])
    await crowd.sent_by_push(1)
    crowd.world.enqueue(a_message(77, user_id="u77", lane="urgent"))
    crowd.enqueue("push", [102])
    await crowd.sent_by_push(2)
    await asyncio.sleep(0.2)
    sent = [each.message.grant_id for each in crowd.email.sent]
    assert a_message(77).grant_id in sent
    assert len(sent) < 41
    await crowd.courier.settled()


@in_simulated_time
async def test_whoever_unsubscribes_while_a_long_queue_is_in_hand_hears_nothing_more_from_it() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0, look=4))
    crowd.enqueue("email", range(1, 13))
    crowd.enqueue("push", [101])
    await crowd.sent_by_push(1)
    crowd.world.suppression.unsubscribe("u12", "email", "link", NOW)
    crowd.email.answering.set()
    await crowd.courier.settled()
    assert crowd.world.outcomes()[a_message(12).grant_id] == "suppressed"
    assert crowd.states() == {"accepted": 11 + 1, "suppressed": 1}


@in_simulated_time
async def test_endpoints_that_hang_hold_up_nobody_elses_messages_for_long() -> None:
    uneven = Uneven(hanging=frozenset(f"u{number}" for number in range(0, 200, 10)))
    world = World(uneven, settings=DispatchSettings(waves=4, look=40), stopwatch=stopwatch)
    dispatcher, let_go = world.dispatcher(), asyncio.Event()
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(200)))
    drain = asyncio.create_task(dispatcher.drain(0, "a", NOW, let_go.set))
    await asyncio.sleep(19.0)
    assert len(uneven.sent) == 180
    assert len(world.memory.outcomes(0, "", 1000)) == 180
    assert let_go.is_set()
    assert (await dispatcher.drain(0, "a", NOW)).taken == 0
    assert (await drain).count("accepted") == 200
    assert stopwatch() < 40


@in_simulated_time
async def test_calls_left_behind_are_no_more_than_all_waves_have() -> None:
    uneven = Uneven(hanging=frozenset(f"u{number}" for number in range(0, 300, 3)))
    world = World(uneven, settings=DispatchSettings(waves=2, patience_s=60.0), stopwatch=stopwatch)
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(300)))
    assert (await world.dispatcher().drain(0, "a", NOW)).count("accepted") == 300
    assert 8 + 8 <= uneven.most_asked <= 2 * 8 + 2 * 8


@in_simulated_time
async def test_waves_of_several_shards_together_leave_no_more_calls_behind_than_one_after_the_other() -> None:
    uneven = Uneven(hanging=frozenset(f"u{number}" for number in range(0, 800, 4)))
    world = World(uneven, settings=DispatchSettings(waves=4, patience_s=60.0), meta=Meta(shards=8), stopwatch=stopwatch)
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(800)))
    dispatcher = world.dispatcher()
    drains = [asyncio.create_task(dispatcher.drain(shard, "a", NOW)) for shard in range(8)]
    late = [0]
    while not all(drain.done() for drain in drains):
        await asyncio.sleep(0.001)
        late += [doors.late for doors in dispatcher._doors.values()]
    assert 3 * 8 < max(late) <= 4 * 8
    assert sum(drain.result().count("accepted") for drain in drains) == 800


@in_simulated_time
async def test_what_a_call_that_was_left_behind_raises_is_told_and_its_message_comes_back() -> None:
    class Failing(Uneven):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            answers = await super().send(deliveries)
            if deliveries[0].message.user_id in self.hanging:
                raise ValueError("a bug")
            return answers

    failing = Failing(hanging=frozenset({"u1"}), hangs_s=3.0)
    world = World(failing, stopwatch=stopwatch)
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(20)))
    with pytest.raises(ExceptionGroup) as failure:
        await world.dispatcher().drain(0, "a", NOW)
    assert failure.group_contains(ValueError, match="a bug")
    assert len(world.memory.outcomes(0, "", 99)) == 19
    assert world.memory.backlog([0]) == [Backlog(in_hand=1)]


@in_simulated_time
async def test_a_few_calls_that_end_without_an_answer_together_rest_no_provider_that_answers_others() -> None:
    silent = range(5, 30, 10)
    uneven = Uneven(hanging=frozenset(f"u{number}" for number in silent), traits=Traits(batch=1, concurrency=32))
    uneven.answers = {a_message(number).grant_id: Unknown("no answer", down=True) for number in silent}
    world = World(uneven, stopwatch=stopwatch)
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(100)))
    await dispatcher.drain(0, "a", NOW)
    world.enqueue(a_message(100))
    assert (await dispatcher.drain(0, "a", NOW + 20)).count("accepted") == 1


@in_simulated_time
async def test_a_call_left_behind_that_is_refused_in_its_midst_says_that_its_provider_is_down_by_now() -> None:
    uneven = Uneven(hanging=frozenset({"u0"}), traits=Traits(batch=4, concurrency=2))
    uneven.answers = {a_message(number).grant_id: Transient("refused", down=True) for number in range(1, 4)}
    world = World(uneven, stopwatch=stopwatch)
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(8)))
    assert (await dispatcher.drain(0, "a", NOW)).count("accepted") == 5
    world.enqueue(a_message(100))
    assert (await dispatcher.drain(0, "a", NOW + 21)).count("accepted") == 0


@in_simulated_time
async def test_calls_left_behind_are_counted_until_they_are_back_though_their_drain_was_cancelled() -> None:
    uneven = Uneven(hanging=frozenset(f"u{number}" for number in range(0, 8, 2)))
    world = World(uneven, settings=DispatchSettings(waves=1), stopwatch=stopwatch)
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(number, user_id=f"u{number}") for number in range(8)))
    drain = asyncio.create_task(dispatcher.drain(0, "a", NOW))
    await asyncio.sleep(5.0)
    drain.cancel()
    await asyncio.wait([drain])
    (doors,) = dispatcher._doors.values()
    assert doors.late == 4
    await asyncio.sleep(20.0)
    assert doors.late == 0


def test_messages_come_back_when_those_before_them_are_through() -> None:
    pace = Pace(began_s=100.0, left=60)
    pace.did(20)
    waits = [pace.next_s(110.0) for _ in range(3)]
    assert waits == pytest.approx([SHARE * 20.5, SHARE * 21.0, SHARE * 21.5])  # two a second, and 40 are left
    pace.did(40)
    assert Pace(began_s=100.0, left=1000).next_s(100.5) == UNKNOWN_S
    assert Pace(began_s=100.0, left=1000).next_s(130.0) == 30.0
    assert Pace(began_s=100.0, left=0, done=5).next_s(100.0) == LEAST_S
    assert pace.next_s(1e6) == MOST_S


@in_simulated_time
async def test_a_queue_goes_on_by_itself_until_it_is_through() -> None:
    busy, let_go = Busy(), asyncio.Event()
    email, push = Queue("email", "scheduled"), Queue("push", "scheduled")
    underway, line = Underway(busy, let_go.set), Line(Pace(0.0))
    with underway.queue(email, line), underway.apart_after(0.0, [email]):
        with underway.queue(push, Line(Pace(0.0))):
            await asyncio.sleep(0.01)
            assert (busy.apart, let_go.is_set()) == ({email: line}, False)
        assert let_go.is_set()
        with Underway(busy, let_go.set).queue(email, Line(Pace(0.0))):
            assert busy.apart == {email: line}
        assert busy.apart == {email: line}
        with underway.patience(email, 0.0):
            await asyncio.sleep(0.01)
        assert line.slow
    assert busy.apart == {}


@in_simulated_time
async def test_a_queue_takes_on_what_comes_until_it_has_enough_in_hand_and_ends_in_the_end() -> None:
    busy, line, email = Busy(), Line(Pace(0.0)), Queue("email", "scheduled")
    underway = Underway(busy, lambda: None)
    with underway.holding(line), underway.queue(email, line), underway.apart_after(0.0, [email]):
        await asyncio.sleep(0.01)
        taken = 0
        while line.has_room(2):
            busy.join(email, Entry(f"{taken}", a_message(taken)))
            taken += 1
            line.pace.did(len(line.take(1)) if line.pace.left == 2 else 0)
        assert taken == 2 * TURNS
        assert busy.in_hand == {f"{number}" for number in range(taken)}
    assert busy.in_hand == set()


@in_simulated_time
async def test_when_a_try_succeeds_what_waited_for_it_follows_at_once() -> None:
    crowd = Crowd(replace(HASTY, apart_s=0.01, patience_s=60.0))
    await crowd.refused()
    crowd.email.answers = {}
    crowd.email.answering.clear()
    crowd.system.clock.at += 31
    crowd.enqueue("push", [101])
    await crowd.sent_by_push(1)
    crowd.enqueue("email", range(11, 31))
    crowd.world.enqueue(a_message(77, user_id="u77", lane="urgent"))
    crowd.enqueue("push", [102])
    await crowd.sent_by_push(2)
    crowd.email.answering.set()
    await crowd.courier.settled()
    crowd.system.clock.at += 2 * TRYING_S
    await crowd.courier.round()
    await crowd.courier.settled()
    assert crowd.states() == {"accepted": 3 + 21 + 2}


@in_simulated_time
async def test_what_waits_for_a_provider_that_rests_costs_no_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    await crowd.refused()
    looks: list[Sequence[str]] = []
    look = crowd.world.profiles.get

    def watched(users: Sequence[str]) -> Profiles:
        looks.append(users)
        return look(users)

    monkeypatch.setattr(crowd.world.profiles, "get", watched)
    crowd.enqueue("email", range(11, 61))
    crowd.enqueue("push", [101])
    await crowd.courier.round()
    await crowd.courier.settled()
    assert looks == [["u101"]]
    assert crowd.world.memory.backlog([0]) == [Backlog(retrying=53)]
    crowd.email.answers = {}
    for _ in range(30):
        crowd.system.clock.at += 31
        await crowd.courier.round()
        await crowd.courier.settled()
    assert crowd.states() == {"accepted": 53 + 1}
