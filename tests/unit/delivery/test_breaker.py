"""The circuit of a channel: a provider that is down is left alone, and costs other channels and its own messages nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.backoff import Backoff
from delivery.breaker import TRYING_S, Breaker, BreakerSettings, is_down
from delivery.channels.base import Accepted, Permanent, Traits, Transient, Unknown
from delivery.dispatch import Dispatcher
from delivery.outbox import Backlog, Entry
from delivery.turn import DispatchSettings
from tests.unit.delivery.examples import NOW, ScriptedChannel, World, a_message

SETTINGS = BreakerSettings(failures=3, rest_s=30.0)


def opened(at: float = NOW) -> Breaker:
    breaker = Breaker("push", SETTINGS)
    for _ in range(SETTINGS.failures):
        breaker.record(down=True, now=at)
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    breaker = Breaker("push", SETTINGS)
    for down in (True, True, False, True, True):
        breaker.record(down=down, now=NOW)
        assert breaker.admit(NOW)
    breaker.record(down=True, now=NOW)
    assert not breaker.admit(NOW)
    assert breaker.resting_until == NOW + 30


def test_after_its_rest_one_call_tries_and_the_others_wait_for_its_answer() -> None:
    breaker = opened()
    assert not breaker.admit(NOW + 29.9)
    assert [breaker.admit(NOW + 30) for _ in range(3)] == [True, False, False]
    breaker.record(down=False, now=NOW + 30)
    assert breaker.resting_until is None
    assert breaker.admit(NOW + 30)


def test_what_waits_for_a_try_comes_back_as_soon_as_its_answer_may_be_there() -> None:
    breaker = opened()
    assert (Breaker("push", SETTINGS).back_at(NOW), breaker.back_at(NOW)) == (None, NOW + 30)
    assert breaker.admit(NOW + 30)
    assert [breaker.back_at(NOW + 30 + passed) for passed in (0, 4, 16, 40)] == [NOW + 30 + TRYING_S, NOW + 38, NOW + 60, NOW + 60]
    breaker.record(down=False, now=NOW + 31)
    assert breaker.back_at(NOW + 31) is None


def test_a_failed_try_means_another_rest_and_one_that_never_ends_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.admit(NOW + 30)
    breaker.record(down=True, now=NOW + 30)
    assert not breaker.admit(NOW + 59.9)
    assert breaker.admit(NOW + 60)
    assert not breaker.admit(NOW + 89.9)
    assert breaker.admit(NOW + 90)


def test_answers_to_calls_from_before_it_opened_neither_close_it_nor_prolong_its_rest() -> None:
    breaker = opened()
    breaker.record(down=False, now=NOW + 10)
    breaker.record(down=True, now=NOW + 10)
    assert not breaker.admit(NOW + 20)
    assert breaker.resting_until == NOW + 30


def test_late_failures_count_only_where_nobody_was_answered_since_and_it_has_not_opened_since() -> None:
    breaker = Breaker("push", SETTINGS)
    breaker.record(down=False, now=NOW + 1)
    for _ in range(SETTINGS.failures):
        breaker.record(down=True, now=NOW + 10, began=NOW)
    assert breaker.resting_until is None
    for _ in range(SETTINGS.failures):
        breaker.record(down=True, now=NOW + 12, began=NOW + 2)
    assert breaker.resting_until == NOW + 42
    assert breaker.admit(NOW + 42)
    breaker.record(down=True, now=NOW + 43, began=NOW + 3)
    breaker.record(down=False, now=NOW + 44)
    assert breaker.resting_until is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_whatever_happened_a_rest_ends(history: list[tuple[bool, float]]) -> None:
    breaker, now = Breaker("push", SETTINGS), NOW
    for down, after_s in history:
        now += after_s
        if breaker.admit(now):
            breaker.record(down=down, now=now)
    until = breaker.resting_until
    assert until is None or until <= now + SETTINGS.rest_s
    assert until is None or breaker.admit(until)


def test_what_one_address_did_says_nothing_of_the_provider() -> None:
    assert not any(is_down(each) for each in (Accepted(), Permanent("no"), Transient("busy"), Unknown("its host is silent")))
    assert all(is_down(each) for each in (Transient("no connection", down=True), Unknown("silent", down=True)))


class Outage:
    """E-mail is down while push is up; both have messages in one shard."""

    def __init__(self, messages: int = 10) -> None:
        self.email = ScriptedChannel("email", Traits(batch=1, concurrency=1))
        self.push = ScriptedChannel("push")
        settings = DispatchSettings(backoff=Backoff(max_attempts=3), breaker=SETTINGS)
        self.world = World(channel=self.email, channels={"push": self.push}, settings=settings)
        self.emails = [a_message(number, deliver_by=NOW + 86400) for number in range(1, messages + 1)]
        self.world.enqueue(*self.emails, *(a_message(100 + number, channel="push") for number in range(messages)))
        self.dispatcher: Dispatcher = self.world.dispatcher()
        self.goes(down=True)

    def goes(self, *, down: bool) -> None:
        answer = Transient("no connection", down=True) if down else Accepted()
        self.email.answers = {message.grant_id: answer for message in self.emails}


async def test_a_channel_that_is_down_is_asked_a_few_times_and_the_others_send_everything() -> None:
    outage = Outage()
    report = await outage.dispatcher.drain(0, "a", NOW)
    assert (len(outage.email.sent), len(outage.push.sent)) == (3, 10)
    assert (report.count("accepted"), report.retried) == (10, 10)


async def test_during_an_outage_of_any_length_no_message_that_waits_uses_up_its_attempts_and_all_arrive_after_it() -> None:
    outage = Outage(messages=50)
    for minute in range(60):
        await outage.dispatcher.drain(0, "a", NOW + 60 * minute)
    tries = len(outage.email.sent)
    assert tries <= 3 + 60
    outage.goes(down=False)
    for minute in range(60, 80):
        await outage.dispatcher.drain(0, "a", NOW + 60 * minute)
    states = [state for grant, state in outage.world.outcomes().items() if int(grant, 16) < 100]
    assert len(states) == 50
    # Those that tried for the others gave up as they would have: each after its own three attempts.
    assert states.count("failed") <= tries // 3
    assert states.count("accepted") == 50 - states.count("failed")


async def test_what_waits_for_a_channel_expires_when_its_time_has_passed() -> None:
    outage = Outage(messages=4)
    brief = a_message(90, deliver_by=NOW + 10)
    outage.emails.append(brief)
    outage.world.enqueue(brief)
    await outage.dispatcher.drain(0, "a", NOW)
    await outage.dispatcher.drain(0, "a", NOW + 10)
    assert outage.world.outcomes()[brief.grant_id] == "expired"
    assert outage.world.refunds.given_back == [("u90", 90)]


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_try_for_which_there_is_nothing_to_send_after_all_is_the_next_messages(
    monkeypatch: pytest.MonkeyPatch, *, taken_over: bool
) -> None:
    outage = Outage(messages=3)
    await outage.dispatcher.drain(0, "a", NOW)
    outage.goes(down=False)
    outage.world.items.put([{"item_id": "gone", "created_at": NOW, "title": "Gone"}])
    outage.world.enqueue(a_message(50, item_id="gone", granted_at=NOW - 60), a_message(51, granted_at=NOW - 50))
    memory = outage.world.memory
    attempt = memory.attempt

    def refused_once(shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        monkeypatch.setattr(memory, "attempt", attempt)
        return [False] * len(entries)

    if taken_over:
        monkeypatch.setattr(memory, "attempt", refused_once)
    else:
        monkeypatch.setattr(outage.world.items, "there", lambda names: [name != "gone" for name in names])
    await outage.dispatcher.drain(0, "a", NOW + 31)
    assert outage.world.outcomes()[a_message(51).grant_id] == "accepted"


async def test_a_try_that_the_store_did_not_let_go_is_the_next_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(messages=3)
    await outage.dispatcher.drain(0, "a", NOW)
    outage.goes(down=False)
    outage.world.enqueue(a_message(50))

    def away(*asked: object) -> list[bool]:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(outage.world.memory, "attempt", away)
        with pytest.raises(ExceptionGroup):
            await outage.dispatcher.drain(0, "a", NOW + 31)
    outage.world.enqueue(a_message(51))
    await outage.dispatcher.drain(0, "a", NOW + 36)
    assert outage.world.outcomes()[a_message(51).grant_id] == "accepted"


async def test_a_provider_that_falls_silent_leaves_few_messages_open() -> None:
    outage = Outage(messages=40)
    outage.email.answers = {message.grant_id: Unknown("silent", down=True) for message in outage.emails}
    report = await outage.dispatcher.drain(0, "a", NOW)
    assert report.count("unknown") == 3
    assert outage.world.memory.backlog([0]) == [Backlog(retrying=37)]


async def test_a_channel_with_a_bug_stops_the_shard_no_more_than_a_few_times() -> None:
    outage = Outage(messages=5)
    outage.email.answers = {message.grant_id: RuntimeError("a bug") for message in outage.emails}
    raised = 0
    for _ in range(6):
        outage.world.enqueue(a_message(200 + raised, channel="push"))
        try:
            await outage.dispatcher.drain(0, "a", NOW)
        except BaseExceptionGroup:
            raised += 1
            outage.world.enqueue(*outage.emails[:1])
    assert raised == 3
