"""What every source takes and gives: a chunk of users and the item table in, (user, item) rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable


@dataclass(frozen=True)
class UserChunk:
    """Users that are decided together; a user's code is its place in `user_ids`."""

    user_ids: list[str]


@dataclass(frozen=True)
class Proposals:
    """(user, item) rows, sorted by user, a user's best or newest first.

    `user`: int32 codes into the chunk. `item`: int32 rows of the item table.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]

    @staticmethod
    def none() -> Proposals:
        """Return no rows."""
        return Proposals(np.empty(0, np.int32), np.empty(0, np.int32))


class Source(Protocol):
    """Proposes rows for a chunk of users. May block for one store round trip; never returns an item past its expiry."""

    @property
    def name(self) -> str:
        """The source's name in settings, the decision log and reports."""
        ...

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        """Return at most the source's limit of rows per user."""
        ...


def at_most(user: npt.NDArray[np.int32], limit: int) -> npt.NDArray[np.bool_]:
    """Return which rows are among the first `limit` of their user; `user` is sorted."""
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    place = np.arange(len(user)) - np.repeat(starts, np.diff(starts, append=len(user)))
    return place < limit
