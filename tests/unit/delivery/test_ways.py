"""A provider that is down is stood in for by the next, without a message sent twice or an attempt wasted."""

from __future__ import annotations

import pytest

from delivery.backoff import Backoff
from delivery.breaker import BreakerSettings
from delivery.channels.base import Accepted, Answer, Permanent, Traits, Transient, Unknown
from delivery.turn import DispatchSettings
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message

REST_S = 30.0
DOWN = Transient("no connection", down=True)


class TwoRelays:
    """E-mail by two relays; a day of messages in one shard."""

    def __init__(self, messages: int = 20) -> None:
        self.first, self.second = (ScriptedChannel("email", Traits(batch=1, concurrency=2)) for _ in range(2))
        settings = DispatchSettings(backoff=Backoff(max_attempts=3), breaker=BreakerSettings(failures=3, rest_s=REST_S))
        self.world = World(channel=self.first, stand_ins={"email": [self.second]}, settings=settings)
        self.messages = [a_message(number, deliver_by=NOW + 86400) for number in range(1, messages + 1)]
        self.world.enqueue(*self.messages)
        self.dispatcher = self.world.dispatcher()

    def answers(self, relay: ScriptedChannel, answer: Answer) -> None:
        relay.answers = {message.grant_id: answer for message in self.messages}

    def sent(self) -> tuple[list[str], list[str]]:
        """Return the grants that each relay was asked to send."""
        return tuple([delivery.message.grant_id for delivery in relay.sent] for relay in (self.first, self.second))  # type: ignore[return-value]


async def test_while_the_first_works_the_second_is_not_asked() -> None:
    relays = TwoRelays()
    await relays.dispatcher.drain(0, "a", NOW)
    first, second = relays.sent()
    assert (len(first), len(second)) == (20, 0)


async def test_when_the_first_goes_down_everything_goes_by_the_second_at_once() -> None:
    relays = TwoRelays()
    relays.answers(relays.first, DOWN)
    await relays.dispatcher.drain(0, "a", NOW)
    await relays.dispatcher.drain(0, "a", NOW)
    first, second = relays.sent()
    assert len(first) == 2, "the first wave"
    assert sorted(second) == sorted(message.grant_id for message in relays.messages), "what the first did not take goes too, without a wait"
    assert set(relays.world.outcomes().values()) == {"accepted"}


async def test_after_its_rest_one_message_tries_the_first_and_if_it_works_the_others_follow() -> None:
    relays = TwoRelays()
    relays.answers(relays.first, DOWN)
    await relays.dispatcher.drain(0, "a", NOW)
    await relays.dispatcher.drain(0, "a", NOW)
    later = [a_message(100 + number, deliver_by=NOW + 86400) for number in range(10)]
    relays.first.answers, relays.first.sent, relays.second.sent = {}, [], []
    relays.world.enqueue(*later)
    await relays.dispatcher.drain(0, "a", NOW + REST_S)
    assert tuple(map(len, relays.sent())) == (10, 0)


async def test_if_the_first_is_still_down_after_its_rest_only_one_message_finds_out() -> None:
    relays = TwoRelays()
    relays.answers(relays.first, DOWN)
    await relays.dispatcher.drain(0, "a", NOW)
    await relays.dispatcher.drain(0, "a", NOW)
    later = [a_message(100 + number, deliver_by=NOW + 86400) for number in range(10)]
    relays.first.answers = {message.grant_id: DOWN for message in later}
    relays.first.sent, relays.second.sent = [], []
    relays.world.enqueue(*later)
    for _ in range(2):
        await relays.dispatcher.drain(0, "a", NOW + REST_S)
    assert tuple(map(len, relays.sent())) == (1, 10)


@pytest.mark.parametrize("answer", [Unknown("silent", down=True), Permanent("no such mailbox"), Transient("busy, later", 60.0)])
async def test_only_what_certainly_was_not_sent_because_the_relay_is_down_goes_by_the_other(answer: Answer) -> None:
    relays = TwoRelays(messages=1)
    relays.answers(relays.first, answer)
    for _ in range(3):
        await relays.dispatcher.drain(0, "a", NOW)
    assert relays.sent()[1] == []


async def test_an_open_message_is_not_sent_again_while_what_comes_after_it_goes_by_the_other() -> None:
    relays = TwoRelays(messages=6)
    relays.answers(relays.first, Unknown("silent", down=True))
    for _ in range(3):
        await relays.dispatcher.drain(0, "a", NOW)
    first, second = relays.sent()
    assert (len(first), len(second)) == (2, 4)
    assert not set(first) & set(second)


async def test_with_both_down_messages_wait_as_they_do_for_one_and_all_arrive_after_it() -> None:
    relays = TwoRelays()
    for relay in (relays.first, relays.second):
        relays.answers(relay, DOWN)
    for minute in range(30):
        await relays.dispatcher.drain(0, "a", NOW + 60 * minute)
    tries = sum(map(len, relays.sent()))
    assert tries <= 2 * 32 + 4
    relays.answers(relays.second, Accepted())
    for minute in range(30, 60):
        await relays.dispatcher.drain(0, "a", NOW + 60 * minute)
    states = list(relays.world.outcomes().values())
    assert len(states) == 20
    assert states.count("accepted") >= 20 - tries // 3


async def test_closing_closes_them_all() -> None:
    relays = TwoRelays()
    await relays.dispatcher.close()
    assert (relays.first.closed, relays.second.closed) == (True, True)
