"""How many critical sends an API key may cause on one day: counted row by row, so that a repeat of a decision costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine, hash64

Bools = npt.NDArray[np.bool_]

DAY_S = 86_400


@dataclass(frozen=True)
class Spent:
    """What became of a wish to spend, bool (n,) each. `admitted`: the row may go. `charged`: this very call paid for it."""

    admitted: Bools
    charged: Bools


class CriticalQuota(Protocol):
    """What keys have spent, by UTC day of `now` (seconds). A use is a uint64 of its own, spent at most once."""

    def spend(self, key_id: str, uses: Keys64, limit: int, now: float) -> Spent:
        """Spend a unit per use, in order, until `limit` of the key's day are spent; atomic per call and at most MAX_USES uses.

        A use that was spent before, today or yesterday, is admitted and costs nothing.
        """
        ...

    def give_back(self, key_id: str, uses: Keys64, now: float) -> None:
        """Give back what was spent on uses on the day of `now`; giving back what was not spent changes nothing."""
        ...

    def spent(self, key_id: str, now: float) -> int:
        """Return how many units of its day a key has spent."""
        ...


def uses_of(grant_ids: Keys64, decision_ids: Sequence[str], request: npt.NDArray[np.integer]) -> Keys64:
    """Return what each row is spent as, uint64 (n,): the same for the same grant by the same decision, and only then."""
    return combine(grant_ids, hash64(decision_ids)[request])


def day_of(now: float) -> int:
    """Return the UTC day of a moment, in days since 1970."""
    return int(now // DAY_S)


@dataclass(frozen=True)
class UnspentQuota:
    """A quota that says what it would let go and spends nothing, for rehearsals."""

    quota: CriticalQuota

    def spend(self, key_id: str, uses: Keys64, limit: int, now: float) -> Spent:
        """Say which uses there is a unit for."""
        left = max(limit - self.quota.spent(key_id, now), 0)
        return Spent(np.arange(len(uses)) < left, np.zeros(len(uses), bool))

    def give_back(self, key_id: str, uses: Keys64, now: float) -> None:
        """Give nothing back: nothing was spent."""

    def spent(self, key_id: str, now: float) -> int:
        """See CriticalQuota."""
        return self.quota.spent(key_id, now)


@dataclass
class MemoryCriticalQuota:
    """Spent units in sets, for tests and replay."""

    days: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, key_id: str, uses: Keys64, limit: int, now: float) -> Spent:
        """See CriticalQuota."""
        admitted, charged = np.zeros(len(uses), bool), np.zeros(len(uses), bool)
        with self._lock:
            today = self.days.setdefault((key_id, day_of(now)), set())
            before = self.days.get((key_id, day_of(now) - 1), set())
            for place, use in enumerate(uses.tolist()):
                known = use in today or use in before
                charged[place] = not known and len(today) < limit
                admitted[place] = known or charged[place]
                if charged[place]:
                    today.add(use)
        return Spent(admitted, charged)

    def give_back(self, key_id: str, uses: Keys64, now: float) -> None:
        """See CriticalQuota."""
        with self._lock:
            self.days.get((key_id, day_of(now)), set()).difference_update(uses.tolist())

    def spent(self, key_id: str, now: float) -> int:
        """See CriticalQuota."""
        return len(self.days.get((key_id, day_of(now)), ()))
