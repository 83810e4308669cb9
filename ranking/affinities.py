"""What each user did with each author and topic, as lists of the largest affinities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lake.ids import Keys64, combine
from ranking.asof import EventLog, Ints, Positions, ragged
from ranking.blocks import (
    Lists,
    Matrix,
)

LEAST_AFFINITY = 0.02
MAX_AFFINITIES = 512
"""A user's list keeps the largest entries of at least this much; the rest says nothing."""


@dataclass
class Pairs:
    """What each user did with each of some keys (authors, topics): one log per column of the affinity."""

    users: Ints
    keys: Keys64
    logs: tuple[tuple[EventLog, float], ...]
    user_key: Keys64

    @cached_property
    def _codes(self) -> dict[int, Ints]:
        """Return each pair's code in each log, by the log's identity: looking keys up takes longer than all else of a list."""
        joint = combine(self.user_key[self.users], self.keys)
        return {name: log.codes(joint) for name, log in {id(log): log for log, _ in self.logs}.items()}

    def lists(self, users: Ints, as_of: float) -> Lists:
        """Return the affinity lists of users as of a moment: at most MAX_AFFINITIES entries each, ordered by key."""
        rows, owner = ragged(np.searchsorted(self.users, users), np.searchsorted(self.users, users, side="right"))
        values = np.empty((len(rows), len(self.logs)), np.float32)
        found: dict[int, Positions] = {}
        for column, (log, half_life_s) in enumerate(self.logs):
            if id(log) not in found:
                found[id(log)] = log.positions_of(self._codes[id(log)][rows], as_of)
            values[:, column] = log.decayed(found[id(log)], half_life_s)
        kept = _largest(values.max(axis=1, initial=0.0), owner, len(users))
        start = np.searchsorted(owner[kept], np.arange(len(users) + 1))
        return Lists(start, self.keys[rows[kept]], values[kept])


def _largest(size: Matrix, owner: Ints, users: int) -> Ints:
    kept = np.flatnonzero(size >= LEAST_AFFINITY)
    if len(kept) == 0 or np.bincount(owner[kept], minlength=users).max() <= MAX_AFFINITIES:
        return kept
    order = kept[np.lexsort((-size[kept], owner[kept]))]
    first = np.searchsorted(owner[order], owner[order])
    return np.sort(order[np.arange(len(order)) - first < MAX_AFFINITIES])


def distinct_pairs(users: Ints, keys: Keys64) -> tuple[Ints, Keys64]:
    """Return the users and keys of each pair that is there, once, ordered by both."""
    distinct = np.unique(np.rec.fromarrays([users, keys]))
    return distinct["f0"].astype(np.int64), distinct["f1"].astype(np.uint64)
