"""A channel that writes one line per message to the terminal, for the demo."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from delivery.channels.base import Accepted, Answer, Delivery, Resources, Settings, Traits


class ConsoleSettings(Settings):
    """Settings of the terminal channel."""

    kind: Literal["console"] = "console"
    name: str = "console"

    def open(self, resources: Resources) -> Console:
        """Return the channel."""
        del resources
        return Console(self.name)


@dataclass(frozen=True)
class Console:
    """Writes messages to standard output."""

    name: str
    traits: Traits = Traits(address="unused", needs_bodies=False, needs_unsubscribe=False, local=True, batch=100)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        # Ids come from outside: nothing in them may steer the terminal.
        lines = [f"{delivery.message.user_id}: {delivery.content.title}" for delivery in deliveries]
        sys.stdout.write("".join(f"{_printable(self.name)} -> {_printable(line)}\n" for line in lines))
        sys.stdout.flush()
        return [Accepted() for _ in deliveries]

    async def close(self) -> None:
        """See Channel."""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
