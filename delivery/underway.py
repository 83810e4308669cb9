"""Which of a shard's messages go on by themselves, so that what takes its time holds up nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from lake.messages import Message

SHARE = 0.8
"""Of the time until a queue should be through: to put aside once more what comes back too early costs less than an idle provider."""
LEAST_S, MOST_S = 0.1, 60.0
UNKNOWN_S = 2.0
"""Bounds of that time, and what it is of a queue of which nothing has been sent yet."""


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
    left: int
    done: int = 0
    _through_s: float = 0.0

    def did(self, messages: int) -> None:
        """Count messages as done."""
        self.left -= messages
        self.done += messages

    def next_s(self, now_s: float) -> float:
        """Return in how many seconds one more message had better come back: about when those before it are through."""
        if not self.done:
            return UNKNOWN_S
        each_s = (now_s - self.began_s) / self.done
        self._through_s = max(self._through_s, now_s + self.left * each_s) + each_s
        return min(max(SHARE * (self._through_s - now_s), LEAST_S), MOST_S)


@dataclass
class Busy:
    """What the drains of one shard share: the queues that go on by themselves, and the entries that are `in_hand`.

    `apart`: queues that are sent by a drain that has let the shard go. `slow`: those whose provider keeps us waiting too long.
    """

    apart: dict[Queue, Pace] = field(default_factory=dict)
    slow: set[Queue] = field(default_factory=set)
    in_hand: set[str] = field(default_factory=set)

    @property
    def queues(self) -> set[Queue]:
        """The queues that what comes for them had better not join."""
        return self.slow | self.apart.keys()


@dataclass
class Underway:
    """What one drain of a shard is sending.

    `let_go`: called once, when all that this drain still sends goes on by itself: the shard may be drained again meanwhile.
    """

    busy: Busy
    let_go: Callable[[], None]
    sending: dict[Queue, Pace] = field(default_factory=dict)
    _gone: bool = False

    @contextmanager
    def queue(self, queue: Queue, pace: Pace) -> Iterator[None]:
        """Count a queue as sending; at the end it holds up nobody any more."""
        self.sending[queue] = pace
        try:
            yield
        finally:
            del self.sending[queue]
            self.busy.slow.discard(queue)
            self.busy.apart.pop(queue, None)
            self._check()

    @contextmanager
    def holding(self, entry_ids: Collection[str]) -> Iterator[None]:
        """Have entries in hand: however long it takes, no other drain of the shard finds them abandoned."""
        self.busy.in_hand.update(entry_ids)
        try:
            yield
        finally:
            self.busy.in_hand.difference_update(entry_ids)

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
        self.busy.apart |= {queue: pace for queue, pace in self.sending.items() if queue in queues}
        self._check()

    def _is_slow(self, queue: Queue) -> None:
        self.busy.slow.add(queue)
        self._check()

    def _check(self) -> None:
        if self.sending and self.sending.keys() <= self.busy.queues and not self._gone:
            self._gone = True
            self.let_go()
