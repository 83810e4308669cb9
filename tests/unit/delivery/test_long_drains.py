"""A drain that takes minutes tells the time as it is by then, not as it was when it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from delivery.channels.base import Answer, Delivery, Traits, Transient
from delivery.dispatch import Dispatcher
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message

EACH_S = 100.0


@dataclass
class Long(ScriptedChannel):
    """A channel that takes its time over one message after the other."""

    traits: Traits = Traits()
    seconds: list[float] = field(default_factory=lambda: [0.0])

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        self.seconds[0] += EACH_S
        return await super().send(deliveries)


def _three() -> tuple[World, Long, Dispatcher]:
    channel = Long()
    world = World(channel, stopwatch=lambda: channel.seconds[0])
    world.enqueue(*(a_message(number) for number in range(1, 4)))
    return world, channel, world.dispatcher()


async def test_an_outcome_is_no_older_than_the_attempt_that_led_to_it() -> None:
    world, _, dispatcher = _three()
    await dispatcher.drain(0, "a", NOW)
    records = [record for _, record in world.memory.outcomes(0, "", 9)]
    assert [(record.tried[0].at - NOW, record.at - NOW) for record in records] == [(0, 100), (100, 200), (200, 300)]


async def test_nothing_is_tried_again_before_its_pause_is_over() -> None:
    world, channel, dispatcher = _three()
    asked = Transient("too many requests", retry_after_s=60.0)
    channel.answers = {a_message(number).grant_id: asked for number in range(1, 4)}
    await dispatcher.drain(0, "a", NOW)
    due = [world.memory.standing(0, a_message(number).grant_id) for number in range(1, 4)]
    assert [each.due_at - NOW for each in due if each and each.due_at] == [160, 260, 360]


async def test_a_provider_rests_from_when_it_was_down() -> None:
    world, channel, dispatcher = _three()
    channel.answers = {a_message(number).grant_id: Transient("no connection", down=True) for number in range(1, 4)}
    await dispatcher.drain(0, "a", NOW)
    world.enqueue(a_message(4))
    await dispatcher.drain(0, "a", NOW + 3 * EACH_S + 1)
    assert len(channel.sent) == 3
    await dispatcher.drain(0, "a", NOW + 3 * EACH_S + 31)
    assert len(channel.sent) == 4
