"""Dead letters of all shards: what is dropped gives back everything that its message was to tell."""

from __future__ import annotations

import weakref

from delivery.deadletters import DeadLetters, name_of
from delivery.outbox import DeadLetter, MemoryOutbox, Outcome
from lake.messages import Message
from tests.unit.delivery.examples import NOW, Refunds, a_message


def dead(*messages: Message) -> tuple[DeadLetters, Refunds]:
    """Return letters of messages that failed for good."""
    outbox, refunds = MemoryOutbox(), Refunds()
    outbox.add(0, messages)
    entries = outbox.read(0, "a", 10, NOW, 1000)
    outbox.settle(0, [Outcome(entry, "failed", "550", dead=True) for entry in entries], NOW)
    return DeadLetters(outbox, 1, refunds), refunds


def test_a_digest_that_is_dropped_gives_back_the_grants_of_all_that_it_told_once() -> None:
    digest = a_message(1, digest=(("i2", f"{2:016x}"), ("i3", f"{3:016x}")))
    letters, refunds = dead(digest, a_message(7))
    names = [name_of(letter) for letter in letters.find() if letter.message == digest]
    assert letters.drop(names).done == 1
    assert refunds.given_back == [("u1", 1), ("u1", 2), ("u1", 3)]
    assert letters.drop(names).missing == names
    assert len(refunds.given_back) == 3
    assert [letter.message for letter in letters.find()] == [a_message(7)]


def test_a_letter_that_is_sent_again_keeps_its_grants() -> None:
    letters, refunds = dead(a_message(1))
    assert letters.replay([name_of(letter) for letter in letters.find()]).done == 1
    assert refunds.given_back == []


def test_of_letters_without_number_only_some_are_held_at_a_time() -> None:
    held: weakref.WeakSet[DeadLetter] = weakref.WeakSet()
    most = 0

    class Full(MemoryOutbox):
        def dead(self, shard: int, count: int) -> list[DeadLetter]:
            nonlocal most
            letters = [DeadLetter(shard, f"{number}-0", None, "550", 1, NOW + number) for number in range(100)]
            held.update(letters)
            most = max(most, len(held))
            return letters

    assert [letter.letter_id for letter in DeadLetters(Full(), 20, Refunds()).find(limit=3)] == ["99-0"] * 3
    assert most < 300
