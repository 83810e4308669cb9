"""Which of a shard's messages go on by themselves, so that what takes its time holds up nobody else's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from delivery.outbox import Entry
from lake.messages import Message

SHARE = 0.6
"""Of the time until a queue should be through: to put aside once more what comes back too early costs less than an idle provider."""
LEAST_S, MOST_S = 0.1, 60.0
UNKNOWN_S = 2.0
"""Bounds of that time, and what it is at least of a queue of which nothing has been sent yet."""

TURNS = 10
"""A queue ends after about so many times what is in hand at once, however much more there is: its drain reports at its end."""


def nobody() -> None:
    """Let nobody know."""


class Queue(NamedTuple):
    """Messages that wait for one another: of one channel and one lane. What is urgent never waits behind what is not."""

    channel: str
    lane: str

    @staticmethod
    def of(message: Message) -> Queue:
        """Return the queue of a message."""
        return Queue(message.channel, message.lane)


@dataclass
class Pace:
    """How fast a queue gets through what is in hand. `began_s`: by the stopwatch; `left`, `done`: messages."""

    began_s: float
    left: int = 0
    done: int = 0
    _through_s: float = 0.0

    def did(self, messages: int) -> None:
        """Count messages as done."""
        self.left -= messages
        self.done += messages

    def next_s(self, now_s: float) -> float:
        """Return in how many seconds one more message had better come back: about when those before it are through."""
        if not self.done:  # as long again as it has kept us waiting
            return min(max(UNKNOWN_S, now_s - self.began_s), MOST_S)
        each_s = (now_s - self.began_s) / self.done
        self._through_s = max(self._through_s, now_s + self.left * each_s) + each_s
        return min(max(SHARE * (self._through_s - now_s), LEAST_S), MOST_S)


@dataclass(eq=False)
class Line:
    """The messages of a queue that a drain has in hand.

    `waiting`: those whose turn is to come. `slow`: their provider takes too long. `late`: what waits for the calls that others left behind.
    """

    pace: Pace
    waiting: deque[Entry] = field(default_factory=deque)
    entry_ids: set[str] = field(default_factory=set)
    slow: bool = False
    late: list[asyncio.Task[None]] = field(default_factory=list)

    def add(self, entries: Sequence[Entry]) -> None:
        """Have messages wait behind the others."""
        self.waiting.extend(entries)
        self.entry_ids.update(entry.entry_id for entry in entries)
        self.pace.left += len(entries)

    def take(self, most: int) -> list[Entry]:
        """Return those that come next."""
        return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    def has_room(self, most: int) -> bool:
        """Return whether one more may wait, where so many are in hand at once."""
        return not self.slow and self.pace.left < most and len(self.entry_ids) < TURNS * most


@dataclass
class Doors:
    """What bounds the calls of a queue, however many shards have some: `waves` at a time, and beside these `late` calls left behind."""

    waves: asyncio.Semaphore
    late: int = 0

    def leave(self, call: asyncio.Task[Any]) -> None:
        """Count a call as late until it is back, whatever becomes of those who wait for it."""
        self.late += 1
        call.add_done_callback(self._is_back)

    def _is_back(self, call: asyncio.Task[Any]) -> None:
        del call
        self.late -= 1


@dataclass
class Busy:
    """What the drains of one shard share: the queues that go on by themselves (`apart`), and the entries that are `in_hand`."""

    apart: dict[Queue, Line] = field(default_factory=dict)
    in_hand: set[str] = field(default_factory=set)

    def join(self, queue: Queue, entry: Entry) -> None:
        """Have a message wait in a queue that goes on by itself, in the hands of the drain that sends it."""
        self.apart[queue].add([entry])
        self.in_hand.add(entry.entry_id)


@dataclass
class Underway:
    """What one drain of a shard is sending.

    `let_go`: called once, when all that this drain still sends goes on by itself: the shard may be drained again meanwhile.
    """

    busy: Busy
    let_go: Callable[[], None]
    sending: dict[Queue, Line] = field(default_factory=dict)
    _waiting: int = 0
    _gone: bool = False

    @contextmanager
    def queue(self, queue: Queue, line: Line) -> Iterator[None]:
        """Count a queue as sending; at the end it holds up nobody any more, and nothing joins it."""
        self.sending[queue] = line
        try:
            yield
        finally:
            del self.sending[queue]
            if self.busy.apart.get(queue) is line:  # else it is another drain's: this one had what may not wait
                del self.busy.apart[queue]
            self._check()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for calls that others left behind: they hold up nobody."""
        self._waiting += 1
        self._check()
        try:
            yield
        finally:
            self._waiting -= 1

    @contextmanager
    def holding(self, line: Line) -> Iterator[None]:
        """Have messages in hand: however long it takes, no other drain of the shard finds them abandoned."""
        self.busy.in_hand |= line.entry_ids
        try:
            yield
        finally:
            self.busy.in_hand -= line.entry_ids

    @contextmanager
    def apart_after(self, seconds: float, queues: Collection[Queue]) -> Iterator[None]:
        """Have those of some queues that are still sending after some seconds go on by themselves."""
        timer = asyncio.get_running_loop().call_later(seconds, self._part, queues)
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def patience(self, queue: Queue, seconds: float) -> Iterator[None]:
        """Find a queue slow where what is done takes longer than some seconds."""
        timer = asyncio.get_running_loop().call_later(seconds, self._is_slow, queue)
        try:
            yield
        finally:
            timer.cancel()

    def _part(self, queues: Collection[Queue]) -> None:
        for queue in self.sending.keys() & set(queues):
            self.busy.apart.setdefault(queue, self.sending[queue])
        self._check()

    def _is_slow(self, queue: Queue) -> None:
        self.sending[queue].slow = True
        self.busy.apart.setdefault(queue, self.sending[queue])
        self._check()

    def _check(self) -> None:
        if (self.sending or self._waiting) and self.sending.keys() <= self.busy.apart.keys() and not self._gone:
            self._gone = True
            self.let_go()
