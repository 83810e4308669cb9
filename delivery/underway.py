"""Which channels of a shard keep their drain waiting, so that a provider that does not answer holds up nobody else's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def nobody() -> None:
    """Let nobody know."""


@dataclass
class Underway:
    """What one drain of a shard is sending. `slow`: the channels of this shard, in any drain, whose provider keeps us waiting.

    `let_go`: called once, when all that this drain still sends is slow: the shard may be drained again meanwhile.
    """

    slow: set[str]
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
            self.slow.discard(name)
            self._check()

    @contextmanager
    def patience(self, name: str, seconds: float) -> Iterator[None]:
        """Find a channel slow where what is done takes longer than some seconds."""
        timer = asyncio.get_running_loop().call_later(seconds, self._is_slow, name)
        try:
            yield
        finally:
            timer.cancel()

    def _is_slow(self, name: str) -> None:
        self.slow.add(name)
        self._check()

    def _check(self) -> None:
        if self.sending and self.sending <= self.slow and not self._gone:
            self._gone = True
            self.let_go()
