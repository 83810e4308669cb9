"""What a unit of attention is worth: the least value that deserves one, from the values seen lately. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def threshold(values: npt.ArrayLike, weights: npt.ArrayLike, sends_wanted: float) -> float:
    """Return the value that, over the sample, as many rows reach as sends are wanted: the N-th highest.

    `values`: (n,), of one channel over the last week; NaN (never scored) is left out. `weights`: (n,), rows that each
    stands for (1 / its chance of being logged). Too few rows for the sends wanted: -inf, everything may go. No sends
    wanted: +inf. Raises ValueError on a negative weight or wish.
    """
    value, weight = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if sends_wanted < 0 or np.any(weight < 0):
        raise ValueError("weights and sends_wanted must not be negative")
    if sends_wanted == 0:
        return float("inf")
    scored = ~np.isnan(value)
    order = np.argsort(-value[scored], kind="stable")
    reached = np.cumsum(weight[scored][order])
    place = int(np.searchsorted(reached, sends_wanted * (1 - 1e-12)))
    return float(value[scored][order[place]]) if place < len(order) else float("-inf")
