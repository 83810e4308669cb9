"""What a user has engaged with already, as keys of items: nobody needs to be told of what they have just read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.key_lists import KeyLists

MOST = 512
"""Items remembered per user, the latest; items leave the table after 14 days, so older ones are not missed."""


class SeenStore(Protocol):
    """Where it is remembered. One round trip per call."""

    def add(self, user_ids: Sequence[str], items: npt.NDArray[np.uint64]) -> None:
        """Remember that users engaged with items (lake.ids.hash64), shape (n,) each; repeating it changes nothing that is read."""
        ...

    def of(self, user_ids: Sequence[str]) -> KeyLists:
        """Return the items each user engaged with lately."""
        ...

    def delete(self, user_ids: Sequence[str]) -> None:
        """Forget users."""
        ...


@dataclass
class MemorySeenStore:
    """Packed keys in a dictionary, for tests and replay."""

    packed: dict[str, bytes] = field(default_factory=dict)

    def add(self, user_ids: Sequence[str], items: npt.NDArray[np.uint64]) -> None:
        """See SeenStore."""
        for user_id, item in zip(user_ids, items.astype("<u8"), strict=True):
            self.packed[user_id] = (self.packed.get(user_id, b"") + item.tobytes())[-8 * MOST :]

    def of(self, user_ids: Sequence[str]) -> KeyLists:
        """See SeenStore."""
        return KeyLists.from_packed([self.packed.get(user_id) for user_id in user_ids])

    def delete(self, user_ids: Sequence[str]) -> None:
        """See SeenStore."""
        for user_id in user_ids:
            self.packed.pop(user_id, None)
