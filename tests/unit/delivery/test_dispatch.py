"""The courier's work on one shard, against every way it can be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from delivery.backoff import Backoff
from delivery.channels.base import Answer, Delivery, Permanent, Traits, Transient, Unknown
from delivery.channels.in_app import InApp
from delivery.inbox import MemoryInbox
from delivery.newest import Newest
from delivery.outbox import Backlog, Entry, MemoryOutbox, Outbox
from delivery.turn import DispatchSettings, DrainReport
from lake.profiles import HAS_KIND_PREFERENCES, blank
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message

PAST_ABANDONED = NOW + 3000


class Killed(BaseException):
    """The process dies here."""


class DiesBeforeSettling(MemoryOutbox):
    """An outbox whose courier dies between the provider's answer and the acknowledgement."""

    def settle(self, *_: object) -> list[bool]:
        raise Killed


class DiesBeforeMarking(MemoryOutbox):
    """An outbox whose courier dies after reading and before it marks an attempt."""

    def attempt(self, *_: object) -> list[bool]:
        raise Killed


def dying(world: World, kind: type[MemoryOutbox]) -> Outbox:
    """Return the world's outbox as a courier sees it that is about to die."""
    return kind(world.memory._shards, world.memory._ids)


async def test_a_message_is_sent_and_its_outcome_recorded() -> None:
    world = World()
    world.enqueue(a_message())
    report = await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.address for delivery in world.channel.sent] == ["u1@example.org"]
    assert (report.taken, report.ended) == (1, {("email", "accepted"): 1})
    assert world.outcomes() == {a_message().grant_id: "accepted"}
    assert world.memory.backlog([0]) == [Backlog()]


@pytest.mark.parametrize("name", ["everything", "channel:email", "kind:room", "lane:scheduled", "source:new_posts"])
async def test_what_is_off_waits_with_all_its_attempts_and_goes_when_it_is_on(name: str) -> None:
    world = World()
    world.is_off = {name, "channel:push"}
    world.enqueue(replace(a_message(), lane="scheduled"))
    assert (await world.dispatcher().drain(0, "a", NOW)).ended == {}
    assert (await world.dispatcher().drain(0, "a", NOW + 1)).taken == 0
    assert world.channel.sent == []
    world.is_off = {"kind:post"}
    assert (await world.dispatcher().drain(0, "a", NOW + 6)).ended == {("email", "accepted"): 1}


async def test_an_empty_shard_asks_nothing_of_anyone() -> None:
    world = World()
    assert (await world.dispatcher().drain(0, "a", NOW)).taken == 0


async def test_killed_between_the_provider_and_the_acknowledgement_is_unknown_and_never_sent_again() -> None:
    world = World()
    world.enqueue(a_message())
    with pytest.raises(BaseExceptionGroup, match="should not"):
        await world.dispatcher(dying(world, DiesBeforeSettling)).drain(0, "dead", NOW)
    assert len(world.channel.sent) == 1
    report = await world.dispatcher().drain(0, "alive", PAST_ABANDONED)
    assert report.count("unknown") == 1
    assert len(world.channel.sent) == 1
    assert world.outcomes() == {a_message().grant_id: "unknown"}
    assert world.refunds.given_back == []


async def test_killed_before_the_attempt_is_sent_once_by_the_next() -> None:
    world = World()
    world.enqueue(a_message())
    with pytest.raises(BaseExceptionGroup):
        await world.dispatcher(dying(world, DiesBeforeMarking)).drain(0, "dead", NOW)
    assert world.channel.sent == []
    await world.dispatcher().drain(0, "alive", PAST_ABANDONED)
    assert len(world.channel.sent) == 1
    assert world.outcomes() == {a_message().grant_id: "accepted"}


async def test_what_is_not_abandoned_yet_is_left_to_who_holds_it() -> None:
    world = World()
    world.enqueue(a_message())
    world.memory.read(0, "busy", 10, NOW, 1000)
    assert (await world.dispatcher().drain(0, "b", NOW + 1)).taken == 0


async def test_a_channel_where_twice_is_once_is_simply_sent_again() -> None:
    inbox = MemoryInbox()
    world = World(channels={"in_app": InApp("in_app", inbox)})
    world.enqueue(a_message(channel="in_app"))
    with pytest.raises(BaseExceptionGroup):
        await world.dispatcher(dying(world, DiesBeforeSettling)).drain(0, "dead", NOW)
    await world.dispatcher().drain(0, "alive", PAST_ABANDONED)
    assert len(inbox.latest("u1")) == 1
    assert world.outcomes() == {a_message().grant_id: "accepted"}


async def test_a_cancelled_drain_leaves_its_attempt_open() -> None:
    started = asyncio.Event()

    class Slow(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            started.set()
            await asyncio.Event().wait()
            return []

    world = World(channel=Slow())
    world.enqueue(a_message())
    drain = asyncio.create_task(world.dispatcher().drain(0, "a", NOW))
    await started.wait()
    drain.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drain
    assert (await World(memory=world.memory, profiles=world.profiles).dispatcher().drain(0, "b", PAST_ABANDONED)).count("unknown") == 1


@pytest.mark.parametrize(
    ("changes", "state", "refunded"),
    [
        ({"deliver_by": NOW}, "expired", True),
        ({"item_id": "gone"}, "cancelled", True),
        ({"channel": "pigeon"}, "failed", False),
        ({"channel": "push"}, "failed", False),
    ],
)
async def test_what_must_not_go_is_not_sent(changes: dict[str, object], state: str, refunded: bool) -> None:
    world = World()
    message = a_message(**changes)
    world.enqueue(message)
    await world.dispatcher().drain(0, "a", NOW)
    assert world.channel.sent == []
    assert world.outcomes() == {message.grant_id: state}
    assert world.refunds.given_back == ([("u1", 1)] if refunded else [])


async def test_an_item_that_expired_meanwhile_is_not_sent() -> None:
    world = World()
    world.items.put([{"item_id": "i1", "created_at": NOW - 100, "expires_at": NOW - 1}])
    world.enqueue(a_message())
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: "expired"}


async def test_unsubscribing_while_queued_stops_the_send_and_gives_the_unit_back() -> None:
    world = World()
    world.enqueue(a_message(critical=True))
    world.suppression.unsubscribe("u1", "email", "link", NOW)
    await world.dispatcher().drain(0, "a", NOW)
    assert world.channel.sent == []
    assert world.outcomes() == {a_message().grant_id: "suppressed"}
    assert world.refunds.given_back == [("u1", 1)]


async def test_a_user_who_is_gone_gets_nothing() -> None:
    world = World()
    world.enqueue(a_message())
    world.profiles.delete(["u1"])
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: "cancelled"}


async def test_a_user_without_an_address_is_a_failure_without_a_dead_letter() -> None:
    world = World()
    world.enqueue(a_message())
    world.profiles.put_addresses("u1", {"push": "token"})
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: "failed"}
    assert world.memory.dead(0, 10) == []
    assert world.refunds.given_back == [("u1", 1)]


@pytest.mark.parametrize(("critical", "state"), [(False, "suppressed"), (True, "accepted")])
async def test_a_kind_switched_off_while_queued_stops_all_but_critical_messages(critical: bool, state: str) -> None:
    world = World()
    world.enqueue(a_message(critical=critical), a_message(2, item_id="i2"))
    world.items.put([{"item_id": "i2", "created_at": NOW, "kind": "post"}])
    world.profiles.write(["u1", "u2"], "flags", np.array([1 | HAS_KIND_PREFERENCES] * 2, np.uint8))
    for user in ("u1", "u2"):
        world.profiles.put_preferences(user, [{"kind": "room", "allowed": False}])
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: state, a_message(2).grant_id: "accepted"}


async def test_what_comes_late_into_quiet_hours_waits_for_their_end_and_what_ends_before_is_given_back() -> None:
    world, lasts = World(), {"deliver_by": NOW + 86400}
    world.enqueue(a_message(1, **lasts), a_message(2), a_message(3, critical=True, **lasts), a_message(4, **lasts))
    asleep = blank(3)
    asleep["zone"], asleep["quiet_from"], asleep["quiet_to"] = b"Europe/Berlin", 22 * 60, 7 * 60
    world.profiles.put(["u1", "u2", "u3"], asleep)
    seven = NOW + 28_000  # NOW is 23:13:20 there
    await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.message.user_id for delivery in world.channel.sent] == ["u3", "u4"]
    await world.dispatcher().drain(0, "a", NOW + 3600)
    assert world.refunds.given_back == [("u2", 2)]
    await world.dispatcher().drain(0, "a", seven - 1)
    assert len(world.channel.sent) == 2
    await world.dispatcher().drain(0, "a", seven)
    assert world.channel.sent[-1].message.user_id == "u1"
    assert world.outcomes()[a_message(2).grant_id] == "expired"


async def test_of_two_versions_in_one_batch_only_the_newer_is_sent() -> None:
    world = World()
    world.enqueue(a_message(1, entity="e", version=1))
    world.memory.add(0, [a_message(2, user_id="u1", entity="e", version=2, update=True)])
    await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.message.version for delivery in world.channel.sent] == [2]
    assert world.outcomes() == {a_message(1).grant_id: "cancelled", a_message(2).grant_id: "accepted"}
    assert world.refunds.given_back == []


@pytest.mark.parametrize("lane", ["scheduled", "urgent"])
async def test_what_a_newer_version_has_overtaken_is_not_sent_after_it(lane: str) -> None:
    world = World(settings=DispatchSettings(look=1))
    older, newer = a_message(1, entity="e", version=1), a_message(2, user_id="u1", entity="e", version=2, update=True, lane=lane)
    world.channel.answers[older.grant_id] = Transient("try later")
    world.enqueue(older)
    dispatcher = world.dispatcher()
    await dispatcher.drain(0, "a", NOW)
    world.enqueue(newer)
    await dispatcher.drain(0, "a", NOW)
    await dispatcher.drain(0, "a", NOW + 3000)
    assert [delivery.message.version for delivery in world.channel.sent] == [1, 2]
    assert world.outcomes() == {older.grant_id: "cancelled", newer.grant_id: "accepted"}


async def test_of_two_versions_in_two_lanes_only_the_newer_is_sent() -> None:
    world = World()
    world.enqueue(a_message(1, entity="e", version=1))
    world.enqueue(a_message(2, user_id="u1", entity="e", version=2, update=True, lane="urgent"))
    await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.message.version for delivery in world.channel.sent] == [2]


def test_only_so_many_versions_are_remembered() -> None:
    newest = Newest(kept=2)
    newest.saw([a_message(number, user_id="u", entity=f"e{number}", version=number) for number in range(4)])
    newest.saw([a_message(2, user_id="u", entity="e2", version=1), a_message(5, user_id="u", entity="e5", version=9)])
    overtaken = [newest.overtaken(a_message(9, user_id="u", entity=f"e{number}", version=1)) for number in range(6)]
    assert overtaken == [False, False, True, False, False, True]


async def test_a_transient_failure_is_tried_again_later_and_counted() -> None:
    world = World()
    world.enqueue(a_message())
    world.channel.answers[a_message().grant_id] = Transient("451 try later")
    report = await world.dispatcher().drain(0, "a", NOW)
    assert (report.retried, report.ended) == (1, {})
    assert (await world.dispatcher().drain(0, "a", NOW)).taken == 0
    world.channel.answers.clear()
    await world.dispatcher().drain(0, "a", NOW + 30)
    ((_, record),) = world.memory.outcomes(0, "", 10)
    assert record.state == "accepted"
    assert [attempt.detail for attempt in record.tried] == ["451 try later", ""]
    assert [attempt.at for attempt in record.tried] == pytest.approx([NOW, NOW + 30], abs=5)


async def test_retry_after_is_obeyed() -> None:
    world = World()
    world.enqueue(a_message())
    world.channel.answers[a_message().grant_id] = Transient("429", retry_after_s=600)
    await world.dispatcher().drain(0, "a", NOW)
    world.channel.answers.clear()
    assert (await world.dispatcher().drain(0, "a", NOW + 599)).taken == 0
    assert (await world.dispatcher().drain(0, "a", NOW + 600)).count("accepted") == 1


async def test_a_retry_that_would_come_too_late_expires_now() -> None:
    world = World()
    world.enqueue(a_message(deliver_by=NOW + 60))
    world.channel.answers[a_message().grant_id] = Transient("429", retry_after_s=600)
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: "expired"}
    assert world.refunds.given_back == [("u1", 1)]


async def test_after_the_last_attempt_it_is_a_dead_letter_that_keeps_its_unit() -> None:
    world = World()
    world.enqueue(a_message(deliver_by=np.inf))
    world.channel.answers[a_message().grant_id] = Transient("451 try later")
    for hour in range(3):
        await world.dispatcher().drain(0, "a", NOW + hour * 3600)
    (letter,) = world.memory.dead(0, 10)
    assert (letter.attempts, letter.reason) == (3, "gave up after 3 attempts: 451 try later")
    assert world.refunds.given_back == []
    assert len(world.channel.sent) == 3


async def test_a_permanent_failure_is_never_tried_again() -> None:
    world = World()
    world.enqueue(a_message())
    world.channel.answers[a_message().grant_id] = Permanent("554 no")
    await world.dispatcher().drain(0, "a", NOW)
    assert world.memory.backlog([0]) == [Backlog()]
    assert [letter.reason for letter in world.memory.dead(0, 10)] == ["554 no"]


async def test_an_address_that_bounced_is_not_written_to_again() -> None:
    world = World()
    world.enqueue(a_message(1), a_message(2))
    world.profiles.put_addresses("u2", {"email": "U1@example.org"})
    world.channel.answers[a_message(1).grant_id] = Permanent("550 no such user", bad_address=True)
    await world.dispatcher(world.memory).drain(0, "a", NOW)
    world.memory.add(0, [a_message(3, user_id="u2"), a_message(4, user_id="u1")])
    await world.dispatcher().drain(0, "a", NOW)
    assert {grant: state for grant, state in world.outcomes().items() if int(grant, 16) > 2} == {
        a_message(3).grant_id: "suppressed",
        a_message(4).grant_id: "suppressed",
    }


async def test_what_the_provider_left_open_is_unknown() -> None:
    world = World()
    world.enqueue(a_message())
    world.channel.answers[a_message().grant_id] = Unknown("the line went dead")
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message().grant_id: "unknown"}
    assert world.refunds.given_back == []


async def test_a_channel_that_fails_in_an_unforeseen_way_does_not_stop_the_others() -> None:
    push = ScriptedChannel("push")
    world = World(channels={"push": push})
    world.enqueue(a_message(1), a_message(2, channel="push"))
    world.channel.answers[a_message(1).grant_id] = RuntimeError("a bug")
    with pytest.raises(BaseExceptionGroup):
        await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message(2).grant_id: "accepted"}
    assert world.memory.backlog([0]) == [Backlog(in_hand=1)]


async def test_stopping_finishes_the_wave_and_puts_the_rest_back() -> None:
    class StopsAfterOne(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            dispatcher.stop()
            return await super().send(deliveries)

    world = World(channel=StopsAfterOne(traits=Traits(batch=1, concurrency=1)))
    dispatcher = world.dispatcher()
    world.enqueue(*(a_message(number) for number in range(1, 4)))
    report = await dispatcher.drain(0, "a", NOW)
    assert (report.count("accepted"), report.retried) == (1, 2)
    successor = World(memory=world.memory, profiles=world.profiles)
    assert (await successor.dispatcher().drain(0, "b", NOW)).count("accepted") == 2


async def test_a_template_that_fails_is_a_dead_letter_and_stops_nobody() -> None:
    world = World()
    world.items.put([{"item_id": "odd", "created_at": NOW, "topics": 7}])
    world.enqueue(a_message(1, item_id="odd"), a_message(2))
    await world.dispatcher().drain(0, "a", NOW)
    assert world.outcomes() == {a_message(1).grant_id: "failed", a_message(2).grant_id: "accepted"}
    assert len(world.memory.dead(0, 10)) == 1


async def test_two_couriers_on_one_shard_send_each_message_once() -> None:
    world = World()
    world.enqueue(*(a_message(number) for number in range(1, 41)))
    world.settings = DispatchSettings(batch=5, backoff=Backoff())
    await asyncio.gather(*(world.dispatcher().drain(0, name, NOW) for name in "abcdefgh"))
    sent = [delivery.message.grant_id for delivery in world.channel.sent]
    assert len(sent) == len(set(sent)) == 40


async def test_a_refund_is_given_only_by_whose_outcome_stands() -> None:
    world = World()
    world.enqueue(a_message(deliver_by=NOW + 60))
    (entry,) = world.memory.read(0, "slow", 10, NOW, 1000)

    class HandsOutAgain(MemoryOutbox):
        def read(self, *_: object) -> list[Entry]:
            return [entry]

    await world.dispatcher().drain(0, "quick", NOW + 59)  # not abandoned: nothing to do
    world.settings = DispatchSettings(abandoned_after_s=1)
    await world.dispatcher().drain(0, "quick", NOW + 59)
    assert world.outcomes() == {entry.message.grant_id: "accepted"}
    slow = HandsOutAgain(world.memory._shards, world.memory._ids)
    await world.dispatcher(slow).drain(0, "slow", NOW + 61)
    assert world.refunds.given_back == []


async def test_what_another_courier_is_sending_is_not_put_back_by_who_held_it_before() -> None:
    world, sending, answering = World(ScriptedChannel(traits=Traits())), asyncio.Event(), asyncio.Event()

    class Waiting(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            sending.set()
            await answering.wait()
            return await super().send(deliveries)

    second = Waiting(traits=Traits())
    other = World(second, memory=world.memory, profiles=world.profiles, settings=DispatchSettings(abandoned_after_s=0))
    taken_over: list[asyncio.Task[DrainReport]] = []
    first = world.dispatcher()

    class TakenOver(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            taken_over.append(asyncio.create_task(other.dispatcher().drain(0, "b", NOW)))
            await sending.wait()
            first.stop()
            return await super().send(deliveries)

    world.channels["email"] = slow = TakenOver(traits=Traits())
    first = world.dispatcher()
    world.enqueue(a_message(1), a_message(2))
    await first.drain(0, "a", NOW)
    answering.set()
    await taken_over[0]
    await other.dispatcher().drain(0, "c", NOW)
    assert [each.message.user_id for each in (*slow.sent, *second.sent)] == ["u1", "u2"]
    assert world.outcomes() == {a_message(1).grant_id: "unknown", a_message(2).grant_id: "accepted"}
    assert world.memory.backlog([0]) == [Backlog()]
