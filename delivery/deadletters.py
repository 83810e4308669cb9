"""Dead letters of all shards, for people: list them, send them again, or drop them and give their units of budget back."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from delivery.outbox import DeadLetter, Outbox
from delivery.parts import Refund

LOOKED_AT = 100_000
"""Most letters of a shard that one call looks at."""


@dataclass(frozen=True)
class Handled:
    """`done`: how many letters were handled. `missing`: names that are no dead letter (any more)."""

    done: int = 0
    missing: list[str] = field(default_factory=list)


def name_of(letter: DeadLetter) -> str:
    """Return the name people use for a letter: its shard and its id there."""
    return f"{letter.shard}/{letter.letter_id}"


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of a store with `shards` shards."""

    outbox: Outbox
    shards: int
    refund: Refund

    def find(self, limit: int = 100, *, channel: str | None = None, user_id: str | None = None) -> list[DeadLetter]:
        """Return the newest letters, newest first, of a channel or user if given."""
        # One shard after the other: all of them at once may be more than there is memory for.
        letters = (letter for shard in range(self.shards) for letter in self.outbox.dead(shard, LOOKED_AT))
        return heapq.nlargest(limit, (letter for letter in letters if _matches(letter, channel, user_id)), key=lambda letter: letter.at)

    def get(self, name: str) -> DeadLetter | None:
        """Return the letter of a name, None where there is none (any more). ValueError: no such name."""
        shard, letter_id = self._place(name)
        return next((letter for letter in self.outbox.dead(shard, LOOKED_AT) if letter.letter_id == letter_id), None)

    def replay(self, names: Sequence[str]) -> Handled:
        """Put letters back into the outbox; those past their time end as expired there. ValueError: no such name."""
        return self._each(names, self.outbox.replay)

    def drop(self, names: Sequence[str]) -> Handled:
        """Forget letters and give their units of budget back. ValueError: no such name."""
        return self._each(names, self._drop)

    def _drop(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        kept = {letter.letter_id: letter.message for letter in self.outbox.dead(shard, LOOKED_AT)}
        dropped = self.outbox.drop(shard, letter_ids)
        messages = [kept.get(letter_id) for letter_id, done in zip(letter_ids, dropped, strict=True) if done]
        given = [(message.user_id, grant_id) for message in messages if message is not None for grant_id in message.grant_ids]
        if given:
            self.refund([user for user, _ in given], np.array([int(grant_id, 16) for _, grant_id in given], np.uint64))
        return dropped

    def _each(self, names: Sequence[str], handle: Callable[[int, Sequence[str]], list[bool]]) -> Handled:
        by_shard: dict[int, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            shard, letter_id = self._place(name)
            by_shard[shard].append(letter_id)
        done, missing = 0, []
        for shard, letter_ids in by_shard.items():
            for letter_id, handled in zip(letter_ids, handle(shard, letter_ids), strict=True):
                done += handled
                missing += [] if handled else [f"{shard}/{letter_id}"]
        return Handled(done, missing)

    def _place(self, name: str) -> tuple[int, str]:
        shard, slash, letter_id = name.partition("/")
        readable = all(part.isdecimal() for part in letter_id.split("-")) and letter_id.isascii()
        if not (slash and shard.isdecimal() and int(shard) < self.shards and readable):
            raise ValueError(
                f"{name!r} does not name a dead letter: names look like 3/1700000000000-0, as `tidings deadletters list` shows"
            )
        return int(shard), letter_id


def _matches(letter: DeadLetter, channel: str | None, user_id: str | None) -> bool:
    if channel is None and user_id is None:
        return True
    message = letter.message
    return message is not None and channel in (None, message.channel) and user_id in (None, message.user_id)
