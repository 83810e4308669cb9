"""How a sum of seven days comes to its budget, from wherever it is: the sends of the days to come, planned anew each night. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.float64]

PERIOD_DAYS = 7
AHEAD_DAYS = 14
FAR_ABOVE = 1.1
"""A sum this many times the budget comes down to it; any other comes up, or keeps."""


def next_day(days: Floats, budget: float, evenness: float, crossing: float) -> float:
    """Return the sends to aim at tomorrow, so that the sum of seven days soon is `budget` and does not go beyond it.

    `days`: sends of the last seven days, oldest first, (7,). What is least over the next AHEAD_DAYS is the squared distance of the sum from
    the budget, `crossing` times as much where the sum lies beyond it as seen from where it comes from, and `evenness` times the squared
    distance of each day from a seventh. Without evenness each day would make up for all that the others lack, and so do again what it did
    a week ago, for ever. Solved exactly, by least squares of what is not negative: sends of each day, and how much each sum falls short.
    """
    reached, square = _sums(), np.eye(AHEAD_DAYS)
    from_below = 1.0 if days.sum() <= FAR_ABOVE * budget else -1.0
    kept = np.zeros(AHEAD_DAYS)
    kept[: PERIOD_DAYS - 1] = days[1:][::-1].cumsum()[::-1]
    weight, even, zero = np.sqrt(crossing), np.sqrt(evenness), np.zeros((AHEAD_DAYS, AHEAD_DAYS))
    rows = np.block([[weight * reached, from_below * weight * square], [zero, square], [even * square, zero]])
    aims = np.concatenate([weight * (budget - kept), np.zeros(AHEAD_DAYS), np.full(AHEAD_DAYS, even * budget / PERIOD_DAYS)])
    return float(scipy.optimize.nnls(rows, aims)[0][0])


def _sums() -> Floats:
    """Return which of the days to come each sum of seven days holds, (AHEAD_DAYS, AHEAD_DAYS)."""
    day = np.arange(AHEAD_DAYS)
    ago = day[:, None] - day
    return ((ago >= 0) & (ago < PERIOD_DAYS)).astype(np.float64)
