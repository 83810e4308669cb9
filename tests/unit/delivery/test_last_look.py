"""The last look before the provider is called: what expired or was cancelled while others were sent does not go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from delivery.channels.base import Answer, Delivery, Traits
from delivery.dispatch import Dispatcher
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message


@dataclass
class Slow(ScriptedChannel):
    """A channel of one message at a time, at each of which something happens meanwhile."""

    traits: Traits = Traits()
    meanwhile: Callable[[], object] = lambda: None

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        self.meanwhile()
        return await super().send(deliveries)


class Watch:
    """A stopwatch moved by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def move(self) -> None:
        self.seconds += 100.0


async def test_a_message_that_expires_while_those_before_it_are_sent_does_not_go_and_its_unit_comes_back() -> None:
    watch = Watch()
    world = World(channel=Slow(meanwhile=watch.move))
    world.items.put([{"item_id": "ends", "created_at": NOW, "title": "Soon over", "expires_at": NOW + 150}])
    late, over = a_message(3, deliver_by=NOW + 200), a_message(4, item_id="ends")
    world.enqueue(a_message(1), a_message(2, deliver_by=NOW + 101), late, over)
    report = await Dispatcher(world.dispatcher()._parts, stopwatch=watch).drain(0, "a", NOW)
    assert [delivery.message.user_id for delivery in world.channel.sent] == ["u1", "u2"]
    assert report.ended == {("email", "accepted"): 2, ("email", "expired"): 2}
    assert world.refunds.given_back == [("u3", 3), ("u4", 4)]


async def test_a_message_whose_item_is_deleted_while_those_before_it_are_sent_does_not_go() -> None:
    world = World(channel=Slow(meanwhile=lambda: world.items.delete(["i1"])))
    world.enqueue(a_message(1), a_message(2), a_message(3))
    report = await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.message.user_id for delivery in world.channel.sent] == ["u1"]
    assert report.ended == {("email", "accepted"): 1, ("email", "cancelled"): 2}
    assert world.refunds.given_back == [("u2", 2), ("u3", 3)]


@pytest.mark.parametrize("name", ["everything", "channel:email", "kind:room", "lane:scheduled", "source:new_posts"])
async def test_what_is_switched_off_while_those_before_it_are_sent_waits_and_goes_when_it_is_on(name: str) -> None:
    world = World(channel=Slow(meanwhile=lambda: world.is_off.add(name)))
    world.enqueue(a_message(1), a_message(2), a_message(3))
    assert (await world.dispatcher().drain(0, "a", NOW)).ended == {("email", "accepted"): 1}
    assert (await world.dispatcher().drain(0, "a", NOW + 1)).taken == 0
    world.is_off.clear()
    assert (await world.dispatcher().drain(0, "a", NOW + 60)).taken == 2
    assert [delivery.message.user_id for delivery in world.channel.sent] == ["u1", "u2"]


async def test_a_digest_tells_only_of_what_is_left_and_is_written_anew_where_an_item_goes_at_the_last_moment() -> None:
    world = World(channel=Slow(meanwhile=lambda: world.items.delete(["i3"])))
    world.items.put([{"item_id": f"i{n}", "created_at": NOW, "title": f"Post {n}", "kind": "post"} for n in (2, 3, 4)])
    world.items.put([{"item_id": "over", "created_at": NOW, "title": "Over", "expires_at": NOW}])
    told = (("over", "0a"), ("i2", "0b"), ("i3", "0c"), ("i4", "0d"))
    world.enqueue(a_message(1), a_message(2, item_id="gone", digest_by="kind:post", digest=told))
    await world.dispatcher().drain(0, "a", NOW)
    assert len(world.channel.sent) == 1
    await world.dispatcher().drain(0, "a", NOW)
    assert [delivery.content.title for delivery in world.channel.sent] == ["A new room", "2 new posts"]
    world.items.delete(["i2", "i4"])
    world.enqueue(a_message(5, item_id="gone", digest_by="kind:post", digest=told))
    assert (await world.dispatcher().drain(0, "a", NOW)).count("expired") == 1
    assert world.refunds.given_back == [("u5", grant) for grant in (5, 10, 11, 12, 13)]


async def test_once_a_provider_has_taken_its_time_it_is_given_no_more_at_once_than_it_takes_within_a_second() -> None:
    watch, calls = Watch(), list[int]()

    class Mails(ScriptedChannel):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            calls.append(len(deliveries))
            for _ in deliveries:
                watch.seconds += 0.1 if len(self.sent) < 40 else 0.001
            return await super().send(deliveries)

    world = World(Mails(traits=Traits(batch=25, concurrency=1)))
    world.enqueue(*(a_message(number) for number in range(1, 101)))
    await Dispatcher(world.dispatcher()._parts, stopwatch=watch).drain(0, "a", NOW)
    assert calls == [25, 4, 4, 4, 4, 4, 25, 25, 5]
    assert list(world.outcomes().values()) == ["accepted"] * 100


@pytest.mark.parametrize(
    ("meanwhile", "state"),
    [
        (lambda world: world.suppression.unsubscribe("u2", "email", "link", NOW), "suppressed"),
        (lambda world: world.suppression.suppress_address("email", "u2@example.org", "bounced", "report", NOW), "suppressed"),
        (lambda world: world.profiles.delete(["u2"]), "cancelled"),
    ],
)
async def test_what_has_waited_since_it_was_looked_at_is_looked_at_again(meanwhile: Callable[[World], object], state: str) -> None:
    watch, world = Watch(), World()

    def a_long_time() -> None:
        watch.move()
        meanwhile(world)

    world.channels["email"] = slow = Slow(meanwhile=a_long_time)
    world.enqueue(a_message(1), a_message(2), a_message(3))
    await Dispatcher(world.dispatcher()._parts, stopwatch=watch).drain(0, "a", NOW)
    assert world.outcomes()[a_message(2).grant_id] == state
    assert [(delivery.message.user_id, delivery.at - NOW) for delivery in slow.sent] == [("u1", 0), ("u3", 100)]


async def test_what_is_overtaken_while_those_before_it_are_sent_does_not_go() -> None:
    world = World()
    dispatcher = world.dispatcher()
    newer = a_message(2, version=2, update=True, lane="urgent")
    world.channels["email"] = slow = Slow(meanwhile=lambda: dispatcher._newest.saw([newer]))
    dispatcher = world.dispatcher()
    world.enqueue(a_message(1), a_message(2, version=1))
    await dispatcher.drain(0, "a", NOW)
    assert [delivery.message.user_id for delivery in slow.sent] == ["u1"]
    assert world.outcomes()[a_message(2).grant_id] == "cancelled"
