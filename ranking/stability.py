"""How far a distribution has moved: the population stability index of binned samples. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_SHARE = 1e-4
"""What an empty bin counts for."""


def shares(counts: npt.NDArray[Any]) -> Floats:
    """Return what part of each sample lies in each bin, (..., bins), 0 where there is no sample."""
    total = counts.sum(axis=-1, keepdims=True)
    found: Floats = counts / np.maximum(total, 1e-300)
    return found


def stability(expected: Floats, found: Floats) -> Floats:
    """Return the index of binned samples given as `shares`, (...): the sum of (b - a) ln(b / a), 0 where alike.

    Symmetric Kullback-Leibler divergence (Jeffreys 1946).
    """
    was, now = np.maximum(expected, LEAST_SHARE), np.maximum(found, LEAST_SHARE)
    index: Floats = ((now - was) * np.log(now / was)).sum(axis=-1)
    return index
