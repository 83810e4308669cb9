"""The newest versions of things that messages tell of: what has been overtaken by a newer one must not be told after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from lake.messages import Message

KEPT = 50_000
"""Things whose newest version is remembered: those that came last."""


class Newest:
    """Remembers, by user, channel and thing, the newest version that has come to be sent. `overtaken` may be asked from any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept, self._versions = kept, OrderedDict[int, int]()

    def saw(self, messages: Sequence[Message]) -> None:
        """Remember the versions of messages."""
        for message in messages:
            if message.version > 0:  # there is none before the first
                key = _key(message)
                self._versions[key] = max(message.version, self._versions.get(key, 0))
                self._versions.move_to_end(key)  # never out of it: another thread may be asking
        while len(self._versions) > self._kept:
            self._versions.popitem(last=False)

    def overtaken(self, message: Message) -> bool:
        """Return whether a newer version has come."""
        return message.version < self._versions.get(_key(message), 0)


def _key(message: Message) -> int:
    """A hash, so that nothing of a user who is erased stays here."""
    return hash((message.user_id, message.channel, message.entity))
