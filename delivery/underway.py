"""Which channels of a shard keep their drain waiting, so that a provider that does not answer holds up nobody else's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def nobody() -> None:
    """Let nobody know."""


@dataclass
class Busy:
    """What the drains of one shard share: `slow` channels, whose provider keeps one of them waiting, and the entries it has `in_hand`.

    `wary`: channels that were slow the last time they were asked.
    """

    slow: set[str] = field(default_factory=set)
    wary: set[str] = field(default_factory=set)
    in_hand: set[str] = field(default_factory=set)


@dataclass
class Underway:
    """What one drain of a shard is sending.

    `let_go`: called once, when all that this drain still sends is slow: the shard may be drained again meanwhile.
    """

    busy: Busy
    let_go: Callable[[], None]
    sending: set[str] = field(default_factory=set)
    _gone: bool = False

    @contextmanager
    def channel(self, name: str) -> Iterator[None]:
        """Count a channel as sending; where it was slow, it is no longer at the end."""
        self.sending.add(name)
        try:
            yield
        finally:
            self.sending.discard(name)
            self.busy.slow.discard(name)
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
    def patience(self, name: str, seconds: float) -> Iterator[None]:
        """Find a channel slow where what is done takes longer than some seconds."""
        self.busy.wary.discard(name)
        timer = asyncio.get_running_loop().call_later(seconds, self._is_slow, name)
        try:
            yield
        finally:
            timer.cancel()

    def _is_slow(self, name: str) -> None:
        self.busy.slow.add(name)
        self.busy.wary.add(name)
        self._check()

    def _check(self) -> None:
        if self.sending and self.sending <= self.busy.slow and not self._gone:
            self._gone = True
            self.let_go()
