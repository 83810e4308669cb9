"""How good a ranking and its probabilities are, on rows whose outcome is known. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]


def ndcg(group: Column, score: Column, label: Bools, k: int = 5, seed: int = 0) -> float:
    """Return the mean NDCG@k over groups with at least one positive, NaN where there is none; ties are broken at random."""
    tie = np.random.default_rng(seed).random(len(score))
    order = np.lexsort((tie, -score, group))
    group, gained = group[order], label[order]
    start = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.empty(0, np.intp)
    size = np.diff(np.append(start, len(group)))
    rank = np.arange(len(group)) - np.repeat(start, size)
    worth = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    positives = np.add.reduceat(gained, start, dtype=np.int64) if len(start) else np.empty(0, np.int64)
    if not positives.any():
        return float("nan")
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.clip(positives, 1, k) - 1]
    return float((np.add.reduceat(worth * gained, start) / ideal)[positives > 0].mean())


def auc(score: Column, label: Bools, weight: Column) -> float:
    """Return the weighted chance that a positive scores above a negative (ties count half), NaN without both."""
    order = np.argsort(score, kind="stable")
    _, place = np.unique(score[order], return_inverse=True)
    positive = np.bincount(place, (weight * label)[order])
    negative = np.bincount(place, (weight * ~label)[order])
    if not positive.sum() or not negative.sum():
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / positive.sum() / negative.sum())


def log_loss(probability: Column, label: Bools, weight: Column) -> float:
    """Return the weighted mean of -log of the probability given to what happened."""
    likelihood = np.where(label, probability, 1 - probability).astype(np.float64)
    return float((-np.log(np.maximum(likelihood, 1e-15)) * weight).sum() / weight.sum())


def expected_over_observed(probability: Column, label: Bools, weight: Column) -> float:
    """Return the sum of probabilities over the sum of outcomes: 1 where calibrated overall, NaN without outcomes."""
    observed = float((label * weight).sum())
    return float((probability * weight).sum() / observed) if observed else float("nan")
