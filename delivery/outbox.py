"""Granted and not yet delivered: one outbox per shard, drained by whoever holds the shard's courier lease."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgpack

from lake.messages import Message

GROUP = "courier"
T = TypeVar("T")

State = Literal["accepted", "failed", "expired", "cancelled", "suppressed", "unknown"]
STATES: tuple[State, ...] = ("accepted", "failed", "expired", "cancelled", "suppressed", "unknown")


class Attempt(NamedTuple):
    """A provider call that was answered: when it began, epoch seconds, and what was wrong with it, "" where nothing was."""

    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in a courier's hands.

    `tried`: the provider calls that have been answered, oldest first. `open`: an earlier attempt began and nobody knows how it ended.
    `holder`: the consumer who read it, and alone may settle it or put it back; "": whoever has it.
    """

    entry_id: str
    message: Message
    tried: tuple[Attempt, ...] = ()
    open: bool = False
    holder: str = ""

    @property
    def attempts(self) -> int:
        """How many provider calls have been answered."""
        return len(self.tried)

    def answered(self, at: float, detail: str = "") -> Entry:
        """Return the entry after one more provider call, begun at `at`, was answered."""
        return replace(self, tried=(*self.tried, Attempt(at, detail)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a message ended: exactly one per message. `dead` keeps the message as a dead letter that can be replayed."""

    entry: Entry
    state: State
    detail: str = ""
    provider_id: str = ""
    dead: bool = False

    @property
    def holder(self) -> str:
        """Who must have the message in hand, "": nobody. What a provider has taken is sent, whoever has the message by now."""
        return "" if self.state == "accepted" else self.entry.holder

    def record(self, now: float) -> OutcomeRecord:
        """Return what is kept of the outcome for the audit."""
        return OutcomeRecord(**self._kept(now))

    def packed(self, now: float) -> bytes:
        """Return the record as the value of a stream field."""
        return bytes(msgpack.packb(self._kept(now)))

    def _kept(self, now: float) -> dict[str, Any]:
        message = self.entry.message
        return {
            "grant_id": message.grant_id,
            "user_id": message.user_id,
            "item_id": message.item_id,
            "channel": message.channel,
            "decision_id": message.decision_id,
            "lane": message.lane,
            "state": self.state,
            "detail": self.detail,
            "provider_id": self.provider_id,
            "tried": self.entry.tried,
            "granted_at": message.granted_at,
            "at": now,
        }


@dataclass(frozen=True, slots=True)
class Retry:
    """A message that may be tried again from `due_at` (seconds) on; `entry.attempts` counts the attempt just answered."""

    entry: Entry
    due_at: float


@dataclass(frozen=True)
class OutcomeRecord:
    """One settled message, as the outcome stream keeps it. Times are epoch seconds."""

    grant_id: str
    user_id: str
    item_id: str
    channel: str
    decision_id: str
    lane: str
    state: State
    detail: str
    provider_id: str
    tried: tuple[Attempt, ...]
    granted_at: float
    at: float

    @property
    def attempts(self) -> int:
        """How many provider calls were answered."""
        return len(self.tried)

    @staticmethod
    def unpack(packed: bytes) -> OutcomeRecord:
        """Return the record of a packed stream field."""
        kept = msgpack.unpackb(packed)
        return OutcomeRecord(**kept | {"tried": attempts_of(kept["tried"])})

    def pack(self) -> bytes:
        """Return the record as the value of a stream field."""
        return bytes(msgpack.packb(self.__dict__))


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be delivered. `letter_id` names it within its shard; `message` is None if unreadable."""

    shard: int
    letter_id: str
    message: Message | None
    reason: str
    attempts: int
    at: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a shard still has to deliver: `queued` not read, `in_hand` read and not settled, `retrying` waiting for their time.

    `due`: those of the latter whose time had come at the moment asked about.
    """

    queued: int = 0
    in_hand: int = 0
    retrying: int = 0
    due: int = field(default=0, compare=False)

    @property
    def total(self) -> int:
        """Everything granted and not settled."""
        return self.queued + self.in_hand + self.retrying

    @property
    def ready(self) -> int:
        """What a drain could do something about; the rest waits for a time that may be hours off."""
        return self.queued + self.in_hand + self.due


@dataclass(frozen=True, slots=True)
class Standing:
    """How a message stands that is not settled. `tried`: the provider calls that were answered, oldest first.

    `due_at`: when it is tried again, None where it is not waiting for its time. `attempted_at`: when a call began that nobody has settled
    yet, None where there is none. Times are epoch seconds.
    """

    tried: tuple[Attempt, ...]
    due_at: float | None = None
    attempted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much of a user an outbox held: `waiting` not settled, `outcomes` and `dead` letters."""

    waiting: int = 0
    outcomes: int = 0
    dead: int = 0


class Outbox(Protocol):
    """The outbox of a store. One round trip per call; every write may safely be repeated after a lost reply."""

    def read(self, shard: int, consumer: str, count: int, now: float, abandoned_after_ms: int) -> list[Entry]:
        """Take at most `count` messages: those another courier left unsettled for so long, retries due, then new ones."""
        ...

    def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        """Mark that a provider is about to be called; False where the entry has passed into other hands: do not send it."""
        ...

    def settle(self, shard: int, outcomes: Sequence[Outcome], now: float) -> list[bool]:
        """Record outcomes and forget the messages; False where one was settled before, or is not accepted and in other hands by now."""
        ...

    def retry_later(self, shard: int, retries: Sequence[Retry]) -> list[bool]:
        """Put messages back until they are due; False where one was settled or put back before, or has passed into other hands."""
        ...

    def backlog(self, shards: Sequence[int], now: float = math.inf) -> list[Backlog]:
        """Return what each of the shards still has to deliver."""
        ...

    def outcomes(self, shard: int, after: str, count: int) -> list[tuple[str, OutcomeRecord]]:
        """Return at most `count` settled messages with their ids, oldest first, after the id `after` ("" = from the first kept)."""
        ...

    def dead(self, shard: int, count: int) -> list[DeadLetter]:
        """Return at most `count` dead letters, oldest first."""
        ...

    def replay(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """Put dead letters back into the outbox with their attempts forgotten; False where there is no such letter."""
        ...

    def drop(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """Forget dead letters; False where there is no such letter."""
        ...

    def waiting(self, shard: int) -> list[Message]:
        """Return every message of a shard that is granted and not settled, in no order; takes a walk through all of them."""
        ...

    def standing(self, shard: int, grant_id: str) -> Standing | None:
        """Return how a message stands, None where it is not there or settled; takes a walk through all of them."""
        ...

    def forget(self, shard: int, user_id: str) -> Forgotten:
        """Take a user of a shard out of everything: what waits, what has ended and what was dead; what is in hand is not recorded."""
        ...


@dataclass
class _Held:
    consumer: str
    since: float
    entry: Entry


@dataclass
class _Shard:
    queued: dict[str, Entry] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    retrying: list[tuple[float, Entry]] = field(default_factory=list)
    outcomes: dict[str, OutcomeRecord] = field(default_factory=dict)
    dead: dict[str, DeadLetter] = field(default_factory=dict)


@dataclass
class MemoryOutbox:
    """An outbox in dictionaries, for tests and replay; the memory commit calls `add`."""

    _shards: dict[int, _Shard] = field(default_factory=dict)
    _ids: int = 0

    def add(self, shard: int, messages: Sequence[Message]) -> None:
        """Enqueue granted messages."""
        box = self._box(shard)
        for message in messages:
            self._enqueue(box, Entry("", message))

    def read(self, shard: int, consumer: str, count: int, now: float, abandoned_after_ms: int) -> list[Entry]:
        """See Outbox."""
        box = self._box(shard)
        for due_at, entry in sorted(box.retrying, key=lambda pair: pair[0]):
            if due_at <= now:
                box.retrying.remove((due_at, entry))
                self._enqueue(box, entry)
        abandoned = [held.entry for held in box.held.values() if (now - held.since) * 1000 >= abandoned_after_ms][:count]
        fresh = list(box.queued.values())[: count - len(abandoned)]
        for entry in fresh:
            del box.queued[entry.entry_id]
        for entry in abandoned + fresh:
            box.held[entry.entry_id] = _Held(consumer, now, entry)
        return [Entry(e.entry_id, e.message, e.tried, e.entry_id in box.marks, consumer) for e in abandoned + fresh]

    def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        """See Outbox."""
        box = self._box(shard)
        granted = []
        for entry in entries:
            held = box.held.get(entry.entry_id)
            granted.append(held is not None and held.consumer == consumer and entry.entry_id not in box.marks)
            if granted[-1]:
                box.marks[entry.entry_id] = now
        return granted

    def settle(self, shard: int, outcomes: Sequence[Outcome], now: float) -> list[bool]:
        """See Outbox."""
        box = self._box(shard)
        settled = [self._release(box, outcome.entry, outcome.holder) for outcome in outcomes]
        for outcome, done in zip(outcomes, settled, strict=True):
            if done:
                box.outcomes[self._next_id()] = outcome.record(now)
            if done and outcome.dead:
                letter_id = self._next_id()
                box.dead[letter_id] = DeadLetter(shard, letter_id, outcome.entry.message, outcome.detail, outcome.entry.attempts, now)
        return settled

    def retry_later(self, shard: int, retries: Sequence[Retry]) -> list[bool]:
        """See Outbox."""
        box = self._box(shard)
        released = [self._release(box, retry.entry, retry.entry.holder) for retry in retries]
        box.retrying += [(retry.due_at, retry.entry) for retry, done in zip(retries, released, strict=True) if done]
        return released

    def backlog(self, shards: Sequence[int], now: float = math.inf) -> list[Backlog]:
        """See Outbox."""
        boxes = [self._box(shard) for shard in shards]
        due = [sum(due_at <= now for due_at, _ in box.retrying) for box in boxes]
        return [Backlog(len(box.queued), len(box.held), len(box.retrying), n) for box, n in zip(boxes, due, strict=True)]

    def outcomes(self, shard: int, after: str, count: int) -> list[tuple[str, OutcomeRecord]]:
        """See Outbox."""
        return [(name, record) for name, record in self._box(shard).outcomes.items() if name > after][:count]

    def dead(self, shard: int, count: int) -> list[DeadLetter]:
        """See Outbox."""
        return list(self._box(shard).dead.values())[:count]

    def replay(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """See Outbox."""
        box = self._box(shard)
        letters = [box.dead.pop(letter_id, None) for letter_id in letter_ids]
        self.add(shard, [letter.message for letter in letters if letter is not None and letter.message is not None])
        return [letter is not None for letter in letters]

    def drop(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """See Outbox."""
        return [self._box(shard).dead.pop(letter_id, None) is not None for letter_id in letter_ids]

    def waiting(self, shard: int) -> list[Message]:
        """See Outbox."""
        box = self._box(shard)
        entries = [*box.queued.values(), *(held.entry for held in box.held.values()), *(entry for _, entry in box.retrying)]
        return [entry.message for entry in entries]

    def standing(self, shard: int, grant_id: str) -> Standing | None:
        """See Outbox."""
        box = self._box(shard)
        taken = [*box.queued.values(), *(held.entry for held in box.held.values())]
        found = [Standing(each.tried, None, box.marks.get(each.entry_id)) for each in taken if each.message.grant_id == grant_id]
        found += [Standing(each.tried, due_at) for due_at, each in box.retrying if each.message.grant_id == grant_id]
        return found[0] if found else None

    def forget(self, shard: int, user_id: str) -> Forgotten:
        """See Outbox."""
        box = self._box(shard)
        retrying = [pair for pair in box.retrying if pair[1].message.user_id == user_id]
        box.retrying = [pair for pair in box.retrying if pair not in retrying]
        queued = _without(box.queued, lambda entry: entry.message.user_id == user_id)
        held = _without(box.held, lambda held: held.entry.message.user_id == user_id)
        box.marks = {name: at for name, at in box.marks.items() if name not in held}
        outcomes = _without(box.outcomes, lambda record: record.user_id == user_id)
        dead = _without(box.dead, lambda letter: letter.message is not None and letter.message.user_id == user_id)
        return Forgotten(len(queued) + len(held) + len(retrying), len(outcomes), len(dead))

    def _box(self, shard: int) -> _Shard:
        return self._shards.setdefault(shard, _Shard())

    def _next_id(self) -> str:
        self._ids += 1
        return f"{self._ids:016d}"

    def _enqueue(self, box: _Shard, entry: Entry) -> None:
        entry_id = self._next_id()
        box.queued[entry_id] = Entry(entry_id, entry.message, entry.tried)

    @staticmethod
    def _release(box: _Shard, entry: Entry, holder: str) -> bool:
        held = box.held.get(entry.entry_id)
        if held is None or holder not in ("", held.consumer):
            return False
        box.marks.pop(entry.entry_id, None)
        del box.held[entry.entry_id]
        return True


def _without(kept: dict[str, T], gone: Callable[[T], bool]) -> list[str]:
    """Take out of a dictionary what is `gone`, and return its names."""
    names = [name for name, value in kept.items() if gone(value)]
    for name in names:
        del kept[name]
    return names


def attempts_of(kept: Iterable[tuple[float, str]]) -> tuple[Attempt, ...]:
    """Return attempts as they were kept."""
    return tuple(Attempt(*each) for each in kept)


def letter_facts(reason: str, attempts: int, now: float) -> dict[str, Any]:
    """Return what a dead letter says beside its message."""
    return {"reason": reason, "attempts": attempts, "at": now}
