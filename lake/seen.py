"""What a user has engaged with already, by entity: nobody needs to be told of what they have just read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.key_lists import KeyLists

MOST = 512
"""Entities remembered per user, the latest; items leave the table after 14 days, so older ones are not missed."""


class SeenStore(Protocol):
    """Where it is remembered. One round trip per call."""

    def add(self, user_ids: Sequence[str], entities: npt.NDArray[np.uint64]) -> None:
        """Remember that users engaged with entities, shape (n,) each; repeating it changes nothing that is read."""
        ...

    def of(self, user_ids: Sequence[str]) -> KeyLists:
        """Return the entities each user engaged with lately."""
        ...

    def delete(self, user_ids: Sequence[str]) -> None:
        """Forget users."""
        ...


@dataclass
class MemorySeenStore:
    """Packed keys in a dictionary, for tests and replay."""

    packed: dict[str, bytes] = field(default_factory=dict)

    def add(self, user_ids: Sequence[str], entities: npt.NDArray[np.uint64]) -> None:
        """See SeenStore."""
        for user_id, entity in zip(user_ids, entities.astype("<u8"), strict=True):
            self.packed[user_id] = (self.packed.get(user_id, b"") + entity.tobytes())[-8 * MOST :]

    def of(self, user_ids: Sequence[str]) -> KeyLists:
        """See SeenStore."""
        return KeyLists.from_packed([self.packed.get(user_id) for user_id in user_ids])

    def delete(self, user_ids: Sequence[str]) -> None:
        """See SeenStore."""
        for user_id in user_ids:
            self.packed.pop(user_id, None)
