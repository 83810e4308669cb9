"""How a decision is cut for the commit: users by shard, at most so many at a time, rows in the order of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scheduler.commit import MAX_USERS

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Parts:
    """The parts of a decision's users.

    Per user: `part`, and `place` (int32) within it. Per part: its `shard`, and the codes of its `members`.
    """

    part: Indices
    place: npt.NDArray[np.int32]
    shard: list[int]
    members: list[Indices]

    @staticmethod
    def of(shard_of_user: npt.NDArray[np.integer], most: int = MAX_USERS) -> Parts:
        """Return parts of one shard and at most `most` users each, in order of shards; users keep their order."""
        order = np.argsort(shard_of_user, kind="stable")
        shard = shard_of_user[order]
        rank = np.arange(len(order)) - np.searchsorted(shard, shard)
        starts = np.flatnonzero(rank % most == 0)
        part, place = np.empty(len(order), np.intp), np.empty(len(order), np.int32)
        part[order], place[order] = np.cumsum(rank % most == 0) - 1, rank % most
        return Parts(part, place, shard[starts].tolist(), np.split(order, starts[1:]))

    def __len__(self) -> int:
        return len(self.shard)

    def spans(self, user: npt.NDArray[np.integer]) -> list[slice]:
        """Return where each part's rows lie in rows that are in the order of parts, given each row's user."""
        return spans(np.searchsorted(self.part[user], np.arange(len(self) + 1)))


def spans(cuts: Sequence[int] | Indices) -> list[slice]:
    """Return the slices between cuts."""
    return [slice(start, end) for start, end in pairwise(np.asarray(cuts).tolist())]


def cut(columns: dict[str, npt.NDArray[Any]], span: slice) -> dict[str, Any]:
    """Return a span of columns."""
    return {name: values[span] for name, values in columns.items()}
