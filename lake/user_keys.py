"""Random keys that stand for users in files, so that forgetting one key unlinks every row about its user."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd


class UserKeys(Protocol):
    """The mapping of users to random keys. One round trip per call."""

    def of(self, user_ids: Sequence[str]) -> list[str]:
        """Return the key of each user, drawing one for a user who has none."""
        ...

    def known(self, user_ids: Sequence[str]) -> list[str | None]:
        """Return the key of each user, None where there is none."""
        ...

    def forget(self, user_ids: Sequence[str]) -> None:
        """Delete the mapping; rows under the old keys can no longer be linked to anyone."""
        ...


def draw() -> str:
    """Return a new random key: 16 hex digits."""
    return secrets.token_hex(8)


def keyed(frame: pd.DataFrame, user_keys: UserKeys) -> pd.DataFrame:
    """Return rows for a file: `user_key`, the users' random keys, in the place of `user_id`."""
    codes, users = pd.factorize(frame["user_id"])
    drawn = np.array(user_keys.of(users.tolist()), object)
    return frame.assign(user_id=drawn[codes]).rename(columns={"user_id": "user_key"})


@dataclass
class MemoryUserKeys:
    """The mapping in a dictionary, for tests and replay."""

    keys: dict[str, str] = field(default_factory=dict)

    def of(self, user_ids: Sequence[str]) -> list[str]:
        """See UserKeys."""
        return [self.keys.setdefault(user_id, draw()) for user_id in user_ids]

    def known(self, user_ids: Sequence[str]) -> list[str | None]:
        """See UserKeys."""
        return [self.keys.get(user_id) for user_id in user_ids]

    def forget(self, user_ids: Sequence[str]) -> None:
        """See UserKeys."""
        for user_id in user_ids:
            self.keys.pop(user_id, None)
