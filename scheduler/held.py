"""Rows that wait for a user's next window: good enough to send, better sent then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

MAX_HELD = 50
"""Held rows per user; beyond it the least valuable gives way, and ends in the decision log as `held_evicted`."""


@dataclass(frozen=True)
class Held:
    """One held row. `expires_at`: seconds."""

    item_id: str
    channel: int
    value: float
    expires_at: float


class HeldStore(Protocol):
    """Reads what the commit holds. One round trip."""

    def read(self, user_ids: Sequence[str]) -> list[list[Held]]:
        """Return each user's held rows, expired ones included."""
        ...


@dataclass
class MemoryHeldStore:
    """Held rows in a dictionary of {(item_id, channel): Held} per user, written by the memory commit."""

    rows: dict[str, dict[tuple[str, int], Held]] = field(default_factory=dict)

    def read(self, user_ids: Sequence[str]) -> list[list[Held]]:
        """See HeldStore."""
        return [list(self.rows.get(user_id, {}).values()) for user_id in user_ids]
