"""The users rows as they were given: what the packed profile has no room for, such as locale and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

UserRow = Mapping[str, Any]
"""One users row as plain values, without `user_id`: times in epoch seconds, absent columns left out."""


class UserRows(Protocol):
    """Where users rows live. One round trip per call."""

    def put(self, user_id: str, row: UserRow) -> None:
        """Insert or replace a user's row."""
        ...

    def get(self, user_id: str) -> UserRow | None:
        """Return a user's row, None where there is none."""
        ...

    def delete(self, user_id: str) -> None:
        """Forget a user's row."""
        ...


@dataclass
class MemoryUserRows:
    """Users rows in a dictionary, for tests."""

    rows: dict[str, UserRow] = field(default_factory=dict)

    def put(self, user_id: str, row: UserRow) -> None:
        """See UserRows."""
        self.rows[user_id] = dict(row)

    def get(self, user_id: str) -> UserRow | None:
        """See UserRows."""
        return self.rows.get(user_id)

    def delete(self, user_id: str) -> None:
        """See UserRows."""
        self.rows.pop(user_id, None)
