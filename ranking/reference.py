"""What a model's feature rows and scores look like when all is well: made at training, kept in the bundle, compared with by the guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.features import FEATURES

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]

SCORES = ("probability", "value")
COLUMNS = (*FEATURES, *SCORES)
PARTS = 10
BINS = PARTS + 3
"""Bins of a column: below its least, tenths of what lies between, above its greatest, missing."""
BELOW, ABOVE, MISSING = 0, PARTS + 1, PARTS + 2
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Reference:
    """`edges`: float32 (columns, PARTS + 1), the quantiles of each column that bins are cut at, NaN where it was never there.

    `counts`: float32 (columns, BINS), what the rows of training held. `middle`: float32 (features,), medians.
    """

    edges: Matrix
    counts: Counts
    middle: Matrix

    @staticmethod
    def of(rows: Matrix, scores: Matrix) -> Reference:
        """Return the reference of feature rows (n, features) and their `scores` (n, 2); n is at least 1."""
        table = np.concatenate([rows, scores], axis=1)
        # A column that nobody has is all NaN: its quantiles are, too.
        there = [column[np.isfinite(column)] for column in table.T]
        nothing = np.full(PARTS + 1, np.nan, np.float32)
        edges = np.stack([np.quantile(each, np.linspace(0, 1, PARTS + 1), method="nearest") if len(each) else nothing for each in there])
        edges = edges.astype(np.float32)
        edges[:, 0] = np.nextafter(edges[:, 0], np.float32(-np.inf))  # a bin holds what lies above its lower edge, up to its upper one
        middle = np.array([np.median(each) if len(each) else np.nan for each in there[: len(FEATURES)]], np.float32)
        return Reference(edges, binned(table, edges), middle)

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "columns": list(COLUMNS),
            "edges": [[None if np.isnan(x) else x for x in row] for row in self.edges.tolist()],
            "counts": self.counts.tolist(),
            "middle": [None if np.isnan(x) else x for x in self.middle.tolist()],
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Reference:
        """Return what `as_json` gave; raises KeyError, TypeError or ValueError where it is something else."""
        if tuple(content["columns"]) != COLUMNS:
            raise ValueError("is of other columns than this Tidings computes")
        edges, counts, middle = (np.array(content[name], np.float32) for name in ("edges", "counts", "middle"))
        if (edges.shape, counts.shape, middle.shape) != ((len(COLUMNS), PARTS + 1), (len(COLUMNS), BINS), (len(FEATURES),)):
            raise ValueError("has columns of another length than it should")
        return Reference(edges, counts, middle)


def binned(table: Matrix, edges: Matrix) -> Counts:
    """Return how many values of each column of `table` (n, columns) lie in each bin, float32 (columns, BINS)."""
    # As searchsorted(side="left") does for a single column; nothing is above a NaN, nor is one above anything.
    bins = np.zeros(table.shape, np.intp)
    for cuts in edges.T:
        bins += table > cuts
    bins[:, np.isnan(edges[:, 0])] = ABOVE  # what is there in a column that never was has no other place
    bins[np.isnan(table)] = MISSING
    bins += np.arange(len(edges)) * BINS
    return np.bincount(bins.ravel(), minlength=len(edges) * BINS).reshape(len(edges), BINS).astype(np.float32)
