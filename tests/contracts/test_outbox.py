"""What every outbox promises: one outcome per message, and no second send of what may have been sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from delivery.outbox import Attempt, Backlog, Entry, Forgotten, MemoryOutbox, Outbox, Outcome, Retry, Standing
from delivery.redis_outbox import UNREADABLE, RedisOutbox
from delivery.redis_streams import read_stream
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.metrics import outcome_field
from tests.unit.delivery.examples import NOW, a_message

SHARD = 3
LONG_MS, AT_ONCE_MS = 3_600_000, 0


@dataclass
class Case:
    """An outbox and a way to grant messages."""

    outbox: Outbox
    add: Callable[[list[Message]], None]

    def read(self, consumer: str = "a", count: int = 100, now: float = NOW, abandoned_after_ms: int = LONG_MS) -> list[Entry]:
        return self.outbox.read(SHARD, consumer, count, now, abandoned_after_ms)

    def read_one(self, consumer: str = "a") -> Entry:
        (entry,) = self.read(consumer)
        return entry


@pytest.fixture(params=["memory", "redis"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "memory":
        memory = MemoryOutbox()
        return Case(memory, lambda messages: memory.add(SHARD, messages))
    client: Redis = request.getfixturevalue("redis_client")
    keys = Keys(16)

    def add(messages: list[Message]) -> None:  # as the commit script does
        for message in messages:
            client.xadd(keys.of_shard(Keys.OUTBOX, SHARD), {FIELD: message.pack()})

    return Case(RedisOutbox(client, keys), add)


def test_a_message_is_read_once_and_in_order(case: Case) -> None:
    messages = [a_message(number) for number in range(5)]
    case.add(messages)
    assert [entry.message for entry in case.read(count=3)] == messages[:3]
    assert [entry.message for entry in case.read(count=3)] == messages[3:]
    assert case.read() == []


def test_an_outbox_nothing_was_ever_put_in_is_empty(case: Case) -> None:
    assert case.read() == []
    assert case.outbox.backlog([SHARD, 4]) == [Backlog(), Backlog()]


def test_the_first_outcome_of_a_message_stands(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    assert case.outbox.settle(SHARD, [Outcome(entry, "accepted", provider_id="p")], NOW) == [True]
    assert case.outbox.settle(SHARD, [Outcome(entry, "failed")], NOW + 1) == [False]
    ((_, record),) = case.outbox.outcomes(SHARD, "", 10)
    assert (record.state, record.provider_id, record.at, record.grant_id) == ("accepted", "p", NOW, entry.message.grant_id)
    assert case.outbox.backlog([SHARD]) == [Backlog()]


def test_outcomes_are_read_on_from_where_one_stopped(case: Case) -> None:
    case.add([a_message(1), a_message(2)])
    case.outbox.settle(SHARD, [Outcome(entry, "accepted") for entry in case.read()], NOW)
    ((first, _),) = case.outbox.outcomes(SHARD, "", 1)
    assert [record.grant_id for _, record in case.outbox.outcomes(SHARD, first, 10)] == [a_message(2).grant_id]


def test_an_attempt_is_marked_once(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    assert case.outbox.attempt(SHARD, "a", [entry], NOW) == [True]
    assert case.outbox.attempt(SHARD, "a", [entry], NOW) == [False]


def test_what_another_courier_holds_cannot_be_attempted(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one("a")
    assert case.outbox.attempt(SHARD, "b", [entry], NOW) == [False]


def test_a_courier_that_was_paused_cannot_attempt_what_has_been_taken_over(case: Case) -> None:
    case.add([a_message()])
    slow = case.read_one("slow")
    (taken,) = case.read("quick", abandoned_after_ms=AT_ONCE_MS)
    assert not taken.open
    assert case.outbox.attempt(SHARD, "slow", [slow], NOW) == [False]
    assert case.outbox.attempt(SHARD, "quick", [taken], NOW) == [True]


def test_a_courier_that_was_paused_neither_settles_nor_puts_back_what_another_may_be_sending(case: Case) -> None:
    case.add([a_message()])
    paused = case.read_one("a")
    (taken_over,) = case.read("b", abandoned_after_ms=AT_ONCE_MS)
    assert case.outbox.attempt(SHARD, "b", [taken_over], NOW) == [True]
    assert case.outbox.retry_later(SHARD, [Retry(paused, NOW)]) == [False]
    assert case.outbox.settle(SHARD, [Outcome(paused, "expired")], NOW) == [False]
    assert case.outbox.backlog([SHARD]) == [Backlog(in_hand=1)]
    assert case.outbox.settle(SHARD, [Outcome(taken_over, "accepted")], NOW) == [True]
    assert [record.state for _, record in case.outbox.outcomes(SHARD, "", 9)] == ["accepted"]


def test_what_a_provider_has_taken_is_accepted_whoever_has_it_in_hand_by_now(case: Case) -> None:
    case.add([a_message()])
    paused = case.read_one("a")
    (taken_over,) = case.read("b", abandoned_after_ms=AT_ONCE_MS)
    assert case.outbox.settle(SHARD, [Outcome(paused, "accepted", provider_id="p1")], NOW) == [True]
    assert case.outbox.settle(SHARD, [Outcome(taken_over, "unknown")], NOW) == [False]
    assert [(record.state, record.provider_id) for _, record in case.outbox.outcomes(SHARD, "", 9)] == [("accepted", "p1")]


def test_a_settled_message_cannot_be_attempted(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    case.outbox.settle(SHARD, [Outcome(entry, "suppressed")], NOW)
    assert case.outbox.attempt(SHARD, "a", [entry], NOW) == [False]


def test_an_abandoned_message_comes_back_and_says_whether_it_was_attempted(case: Case) -> None:
    case.add([a_message(1), a_message(2)])
    first, _ = case.read("dead")
    case.outbox.attempt(SHARD, "dead", [first], NOW)
    assert case.read("alive", abandoned_after_ms=LONG_MS) == []
    found = case.read("alive", abandoned_after_ms=AT_ONCE_MS)
    assert [(entry.message.grant_id, entry.open) for entry in found] == [(a_message(1).grant_id, True), (a_message(2).grant_id, False)]


def test_a_retry_comes_back_when_it_is_due_and_not_before(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    case.outbox.attempt(SHARD, "a", [entry], NOW)
    assert case.outbox.retry_later(SHARD, [Retry(entry.answered(NOW, "451: try later"), NOW + 60)]) == [True]
    assert case.outbox.backlog([SHARD]) == [Backlog(retrying=1)]
    assert case.read(now=NOW + 59) == []
    (again,) = case.read(now=NOW + 60)
    assert (again.message, again.tried, again.open) == (entry.message, (Attempt(NOW, "451: try later"),), False)
    case.outbox.retry_later(SHARD, [Retry(again.answered(NOW + 60), NOW + 90)])
    (last,) = case.read(now=NOW + 90)
    assert last.tried == (Attempt(NOW, "451: try later"), Attempt(NOW + 60))
    case.outbox.settle(SHARD, [Outcome(last.answered(NOW + 91, "550"), "failed", "550")], NOW + 92)
    ((_, record),) = case.outbox.outcomes(SHARD, "", 10)
    assert (record.tried, record.attempts) == ((*last.tried, Attempt(NOW + 91, "550")), 3)


def test_putting_back_twice_is_putting_back_once(case: Case) -> None:
    case.add([a_message()])
    retry = Retry(case.read_one(), NOW)
    assert case.outbox.retry_later(SHARD, [retry]) == [True]
    assert case.outbox.retry_later(SHARD, [retry]) == [False]
    assert len(case.read(now=NOW)) == 1


def test_a_message_put_back_for_later_cannot_be_settled_by_who_held_it(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    case.outbox.retry_later(SHARD, [Retry(entry, NOW)])
    assert case.outbox.settle(SHARD, [Outcome(entry, "accepted")], NOW) == [False]


def test_the_backlog_counts_what_is_queued_in_hand_and_waiting(case: Case) -> None:
    case.add([a_message(number) for number in range(4)])
    first, _ = case.read(count=2)
    case.outbox.retry_later(SHARD, [Retry(first, NOW + 60)])
    (backlog,) = case.outbox.backlog([SHARD])
    assert backlog == Backlog(queued=2, in_hand=1, retrying=1)
    assert (backlog.total, backlog.ready) == (4, 4)
    assert [each.ready for now in (NOW + 59, NOW + 60) for each in case.outbox.backlog([SHARD], now)] == [3, 4]


def test_how_a_message_stands_is_told_until_it_is_settled(case: Case) -> None:
    messages = [a_message(number) for number in range(3)]
    grant = messages[1].grant_id
    assert case.outbox.standing(SHARD, grant) is None
    case.add(messages)
    assert case.outbox.standing(SHARD, grant) == Standing(())
    _, entry, _ = case.read()
    case.outbox.attempt(SHARD, "a", [entry], NOW + 2)
    assert case.outbox.standing(SHARD, grant) == Standing((), attempted_at=NOW + 2)
    case.outbox.retry_later(SHARD, [Retry(entry.answered(NOW + 3, "busy"), NOW + 60)])
    assert case.outbox.standing(SHARD, grant) == Standing((Attempt(NOW + 3, "busy"),), due_at=NOW + 60)
    (again,) = case.read(now=NOW + 60)
    assert case.outbox.standing(SHARD, grant) == Standing((Attempt(NOW + 3, "busy"),))
    case.outbox.settle(SHARD, [Outcome(again, "accepted")], NOW + 61)
    assert case.outbox.standing(SHARD, grant) is None
    assert case.outbox.standing(SHARD, messages[2].grant_id) == Standing(())


def test_a_dead_letter_is_kept_and_can_be_replayed_once(case: Case) -> None:
    case.add([a_message()])
    entry = case.read_one()
    tried = Entry(entry.entry_id, entry.message, (Attempt(NOW),) * 3)
    case.outbox.settle(SHARD, [Outcome(tried, "failed", "550 no such user", dead=True)], NOW)
    (letter,) = case.outbox.dead(SHARD, 10)
    assert (letter.message, letter.reason, letter.attempts, letter.at) == (entry.message, "550 no such user", 3, NOW)
    assert case.outbox.replay(SHARD, [letter.letter_id]) == [True]
    assert case.outbox.replay(SHARD, [letter.letter_id]) == [False]
    assert case.outbox.dead(SHARD, 10) == []
    again = case.read_one()
    assert (again.message, again.attempts) == (entry.message, 0)


def test_a_dropped_dead_letter_is_gone(case: Case) -> None:
    case.add([a_message()])
    case.outbox.settle(SHARD, [Outcome(case.read_one(), "failed", "no", dead=True)], NOW)
    (letter,) = case.outbox.dead(SHARD, 10)
    assert case.outbox.drop(SHARD, [letter.letter_id]) == [True]
    assert case.outbox.drop(SHARD, [letter.letter_id]) == [False]
    assert case.outbox.dead(SHARD, 10) == []
    assert case.read() == []


def test_shards_do_not_mix(case: Case) -> None:
    case.add([a_message()])
    assert case.outbox.read(SHARD + 1, "a", 10, NOW, LONG_MS) == []
    assert len(case.read()) == 1


def test_a_message_that_cannot_be_read_becomes_a_dead_letter_and_stops_nobody(redis_client: Redis) -> None:
    keys = Keys(16)
    name = keys.of_shard(Keys.OUTBOX, SHARD)
    redis_client.xadd(name, {FIELD: b"\xc1 not a message"})
    redis_client.xadd(name, {"other": b""})
    redis_client.xadd(name, {FIELD: a_message().pack()})
    outbox = RedisOutbox(redis_client, keys)
    assert [entry.message for entry in outbox.read(SHARD, "a", 10, NOW, LONG_MS)] == [a_message()]
    assert [(letter.message, letter.reason) for letter in outbox.dead(SHARD, 10)] == [(None, UNREADABLE)] * 2
    assert outbox.backlog([SHARD]) == [Backlog(in_hand=1)]


def test_outcomes_are_counted_in_the_same_step(redis_client: Redis) -> None:
    keys = Keys(16)
    redis_client.xadd(keys.of_shard(Keys.OUTBOX, SHARD), {FIELD: a_message().pack()})
    outbox = RedisOutbox(redis_client, keys)
    (entry,) = outbox.read(SHARD, "a", 10, NOW, LONG_MS)
    outbox.settle(SHARD, [Outcome(entry, "accepted")], NOW)
    outbox.settle(SHARD, [Outcome(entry, "accepted")], NOW)
    assert redis_client.hget(keys.of_shard(Keys.METRICS, SHARD), outcome_field("email", "accepted")) == b"1"


def test_what_waits_is_seen_wherever_it_is(case: Case) -> None:
    case.add([a_message(number) for number in range(3)])
    first, _ = case.read(count=2)
    case.outbox.retry_later(SHARD, [Retry(first, NOW + 60)])
    assert sorted(message.grant_id for message in case.outbox.waiting(SHARD)) == [a_message(number).grant_id for number in range(3)]


def test_a_forgotten_user_is_nowhere_and_everybody_else_is_where_they_were(case: Case) -> None:
    def everywhere(user_id: str, start: int) -> list[Message]:
        return [a_message(start + number, user_id=user_id) for number in range(5)]

    case.add([message for pair in zip(everywhere("ada", 0), everywhere("bob", 10), strict=True) for message in pair])
    taken = case.read(count=8)
    retried, settled, dead, held = taken[:2], taken[2:4], taken[4:6], taken[6:]
    case.outbox.retry_later(SHARD, [Retry(entry, NOW + 60) for entry in retried])
    case.outbox.settle(SHARD, [Outcome(entry, "accepted") for entry in settled], NOW)
    case.outbox.settle(SHARD, [Outcome(entry, "failed", dead=True) for entry in dead], NOW)
    assert case.outbox.attempt(SHARD, "a", held, NOW) == [True, True]
    assert case.outbox.forget(SHARD, "ada") == Forgotten(waiting=3, outcomes=2, dead=1)
    assert case.outbox.forget(SHARD, "ada") == Forgotten()
    assert {message.user_id for message in case.outbox.waiting(SHARD)} == {"bob"}
    assert {record.user_id for _, record in case.outbox.outcomes(SHARD, "", 10)} == {"bob"}
    assert [letter.message and letter.message.user_id for letter in case.outbox.dead(SHARD, 10)] == ["bob"]
    assert case.outbox.backlog([SHARD]) == [Backlog(queued=1, in_hand=1, retrying=1)]
    ends = case.outbox.settle(SHARD, [Outcome(entry, "accepted") for entry in held], NOW)
    assert dict(zip([entry.message.user_id for entry in held], ends, strict=True)) == {"ada": False, "bob": True}
    assert [entry.message.user_id for entry in case.read(now=NOW + 60)] == ["bob", "bob"]


@pytest.mark.parametrize("first", ["read", "put back"])
def test_a_user_is_forgotten_while_their_message_passes_from_place_to_place(
    redis_client: Redis, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each command of the forgetting client a courier does what comes next."""
    outbox, stream = RedisOutbox(redis_client, Keys(16)), Keys(16).of_shard(Keys.OUTBOX, SHARD)
    redis_client.xadd(stream, {FIELD: a_message(1, user_id="ada").pack()})
    taken = outbox.read(SHARD, "a", 10, NOW, LONG_MS)
    if first == "read":
        outbox.retry_later(SHARD, [Retry(taken.pop(), NOW)])

    def next_step() -> None:
        if taken:
            outbox.retry_later(SHARD, [Retry(taken.pop(), NOW)])
        else:
            taken.extend(outbox.read(SHARD, "a", 10, NOW, LONG_MS))

    watched = Redis(connection_pool=redis_client.connection_pool)
    execute: Callable[..., Any] = watched.execute_command

    def executing(*arguments: Any, **options: Any) -> Any:
        try:
            return execute(*arguments, **options)
        finally:
            next_step()

    monkeypatch.setattr(watched, "execute_command", executing)
    assert RedisOutbox(watched, Keys(16)).forget(SHARD, "ada").waiting == 1
    assert outbox.waiting(SHARD) == []


def test_what_waits_unreadable_goes_with_the_user_its_bytes_name(redis_client: Redis) -> None:
    outbox, stream = RedisOutbox(redis_client, Keys(16)), Keys(16).of_shard(Keys.OUTBOX, SHARD)
    for number, packed in enumerate((b"not msgpack: ada@example.org", a_message(1, user_id="bob", item_id="ada").pack(), b"neither")):
        redis_client.xadd(stream, {FIELD: packed}, id=f"{number + 1}-0")
    assert outbox.forget(SHARD, "ada").waiting == 1
    assert [name for name, _ in read_stream(redis_client, stream, 9)] == ["2-0", "3-0"]


def test_what_another_courier_left_in_hand_is_still_theirs_after_somebody_was_forgotten(case: Case) -> None:
    case.add([a_message(1), a_message(2, user_id="ada")])
    left, _ = case.read("dead")
    case.outbox.attempt(SHARD, "dead", [left], NOW)
    case.outbox.forget(SHARD, "ada")
    assert case.read("alive", abandoned_after_ms=LONG_MS) == []
    (found,) = case.read("alive", abandoned_after_ms=AT_ONCE_MS)
    assert (found.message, found.open) == (left.message, True)


def test_a_letter_that_cannot_be_read_goes_with_the_user_its_bytes_name(redis_client: Redis) -> None:
    outbox, stream = RedisOutbox(redis_client, Keys(16)), Keys(16).of_shard(Keys.OUTBOX, SHARD)
    for packed in (b"not msgpack: ada@example.org", b"not msgpack either"):
        redis_client.xadd(stream, {FIELD: packed})
    outbox.read(SHARD, "a", 10, NOW, LONG_MS)
    assert outbox.forget(SHARD, "ada").dead == 1
    assert len(outbox.dead(SHARD, 10)) == 1
