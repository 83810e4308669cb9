"""What every source takes and gives: a chunk of users and the item table in, (user, item) rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable
from lake.profiles import Profiles

DENSE_CELLS = 4_000_000
"""Up to so many (user, item) cells a table with a place for each is faster than sorting."""


@dataclass(frozen=True)
class UserChunk:
    """Users that are decided together; a user's code is its place in `user_ids`. `profiles`: theirs, None where they were not read."""

    user_ids: list[str]
    profiles: Profiles | None = None


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


def first_of_each(key: npt.NDArray[np.int64], keys: int) -> npt.NDArray[np.intp]:
    """Return the ascending places of the first occurrence of every key; keys are below `keys`."""
    if keys > DENSE_CELLS:
        return np.sort(np.unique(key, return_index=True)[1])
    place = np.arange(len(key))
    first = np.zeros(keys, np.intp)
    first[key[::-1]] = place[::-1]  # of several values for one place, numpy keeps the last
    return np.flatnonzero(first[key] == place)


def distinct_pairs(
    user: npt.NDArray[np.int32], place: npt.NDArray[np.int64], users: int, places: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the distinct pairs, ascending; users are below `users`, places below `places`."""
    if users * places > DENSE_CELLS:
        distinct = np.unique(user.astype(np.int64) * places + place)
        return (distinct // places).astype(np.int32), distinct % places
    there = np.zeros((users, places), bool)
    there[user, place] = True
    rows, columns = np.nonzero(there)
    return rows.astype(np.int32), columns
