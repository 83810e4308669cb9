"""What was known about a key just before a moment: exact counts, decayed sums and last times for any (key, at), vectorised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Positions:
    """For each query, the events of its key strictly before its moment: rows `start` to `end` of the log's order."""

    start: Ints
    end: Ints
    at: Floats

    @property
    def count(self) -> Ints:
        """The number of events, shape (n,)."""
        return self.end - self.start


@dataclass
class EventLog:
    """Events by key in the order of time. Every answer is about strictly before `at`, so the future cannot change it.

    `keys`: uint64 (n,). `at`: float64 seconds (n,). `weight`: float64 (n,), 1 where not given. `rows` maps the log's
    order back to the order the events were given in.
    """

    keys: Keys64
    at: Floats
    weight: Floats | None = None
    rows: npt.NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        self._distinct, codes = np.unique(self.keys, return_inverse=True)
        self._times, ranks = np.unique(self.at, return_inverse=True)
        self.rows = np.lexsort((ranks, codes))
        self._span = len(self._times) + 1
        self._rank = ranks[self.rows]
        self._place = codes[self.rows] * self._span + self._rank
        self._start = np.searchsorted(codes[self.rows], np.arange(len(self._distinct) + 1))
        self._at = self.at[self.rows] if len(self.rows) else np.full(1, np.nan)
        self._weight = np.ones(len(self.rows)) if self.weight is None else self.weight[self.rows].astype(np.float64)
        self._first = self._start[codes[self.rows]]
        self._decayed: dict[float, Floats] = {}

    def codes(self, keys: Keys64) -> Ints:
        """Return the codes of keys for `positions_of`; those of keys without events are all the same."""
        if not len(self._distinct):
            return np.zeros(len(keys), np.int64)
        codes = np.minimum(np.searchsorted(self._distinct, keys), len(self._distinct) - 1)
        return np.where(self._distinct[codes] == keys, codes, len(self._distinct))

    def positions_of(self, codes: Ints, at: float) -> Positions:
        """Return `positions` of keys by their codes at one moment, in one pass over the log: for many keys."""
        passed = np.append(0, np.cumsum(self._rank < np.searchsorted(self._times, at)))
        start = np.append(self._start[:-1], 0)
        end = start + np.append(np.diff(passed[self._start]), 0)
        return Positions(start[codes], end[codes], np.full(len(codes), at))

    def positions(self, keys: Keys64, at: npt.ArrayLike) -> Positions:
        """Return where the events of each key before `at` lie; `at` is one moment or one per key."""
        moments = np.broadcast_to(np.asarray(at, np.float64), keys.shape)
        if not len(self.rows):
            nothing = np.zeros(len(keys), np.int64)
            return Positions(nothing, nothing, moments)
        codes = np.minimum(np.searchsorted(self._distinct, keys), len(self._distinct) - 1)
        known = self._distinct[codes] == keys
        start = np.where(known, self._start[codes], 0)
        end = np.searchsorted(self._place, codes * self._span + np.searchsorted(self._times, moments))
        return Positions(start, np.where(known, end, 0), moments)

    def decayed(self, found: Positions, half_life_s: float) -> Floats:
        """Return the sum of weight x 0.5 ** (age / half_life_s) over each query's events."""
        values = self._running(half_life_s)
        return np.where(found.count > 0, values[found.end - 1] * _decay(found.at - self._at[found.end - 1], half_life_s), 0.0)

    def last_at(self, found: Positions) -> Floats:
        """Return the time of each query's latest event, NaN where there is none."""
        return np.where(found.count > 0, self._at[found.end - 1], np.nan)

    def first_at(self, found: Positions) -> Floats:
        """Return the time of each query's earliest event, NaN where there is none."""
        return np.where(found.count > 0, self._at[found.start * (found.count > 0)], np.nan)

    def _running(self, half_life_s: float) -> Floats:
        """Return each event's decayed sum over itself and the earlier events of its key.

        A linear recurrence solved by doubling (Hillis and Steele 1986): after the pass with stride s every event holds
        the sum over the last 2 s events. All terms are positive and every decay is at most 1: no overflow over any
        span of time, and no cancellation.
        """
        if half_life_s not in self._decayed:
            values = self._weight.copy() if len(self.rows) else np.zeros(1)
            rows, stride = np.arange(len(self.rows)), 1
            while len(rows := rows[rows - stride >= self._first[rows]]):
                values[rows] += _decay(self._at[rows] - self._at[rows - stride], half_life_s) * values[rows - stride]
                stride *= 2
            self._decayed[half_life_s] = values
        return self._decayed[half_life_s]


def _decay(age_s: Floats, half_life_s: float) -> Floats:
    return np.exp2(-np.maximum(age_s, 0.0) / half_life_s)


def ragged(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the concatenated ranges start[i]..end[i] and, for each element, its i."""
    lengths = end - start
    owner = np.repeat(np.arange(len(start)), lengths)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return start[owner] + offset, owner
