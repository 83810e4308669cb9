"""How far a distribution has moved, and how surely a share has grown. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_SHARE = 1e-4
"""What an empty bin counts for."""
RARE = 0.01
"""What a share counts for at least, and at most lacks to 1: how much rarer it is nobody has seen enough to tell."""


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


def surprise(expected: Floats, found: Floats, seen: Floats) -> Floats:
    """Return how surely shares have grown, (...), 0 where they have not: chance alone does so at most once in e to that many times.

    `seen`: how many independent ones the `found` share is of. The bound of Chernoff.
    """
    was, now = np.clip(expected, RARE, 1 - RARE), np.clip(found, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        here, there = (np.where(part > 0, part * np.log(part / of), 0.0) for part, of in ((now, was), (1 - now, 1 - was)))
    grown: Floats = np.where(now > was, seen * (here + there), 0.0)
    return grown
