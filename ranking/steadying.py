"""Scores of a model whose input is wrong, moved to where its scores were before, so that as many beat a threshold as did. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix

Draws = npt.NDArray[np.float64]
GRID = 1_001
"""Quantiles that a distribution of scores is kept as, at most."""


@dataclass(frozen=True)
class Steady:
    """Maps scores by quantile: `found` are sorted samples of what comes now, `wanted` of what came before, (n, 2) and (m, 2) float32."""

    found: Matrix
    wanted: Matrix

    @staticmethod
    def of(found: Matrix, wanted: Matrix) -> Steady:
        """Return the map from samples in any order and number."""
        return Steady(_thinned(found), _thinned(wanted))

    def __call__(self, scores: Matrix, draws: Draws) -> Matrix:
        """Return scores (n, 2) at the same quantiles of `wanted`, NaN where they are; equal ones are spread by their `draws` in [0, 1)."""
        moved = [self._moved(scores[:, place], place, draws) for place in range(scores.shape[1])]
        return np.stack(moved, axis=1).astype(np.float32)

    def _moved(self, score: Matrix, place: int, draws: Draws) -> Draws:
        found, wanted = self.found[:, place], self.wanted[:, place]
        low, high = np.searchsorted(found, score, side="left"), np.searchsorted(found, score, side="right")
        quantile = (low + draws * (high - low)) / len(found)
        moved = np.interp(quantile, (np.arange(len(wanted)) + 0.5) / len(wanted), wanted)
        return np.where(np.isnan(score), np.nan, moved)


def _thinned(scores: Matrix) -> Matrix:
    """Return at most GRID scores that lie as the given ones do, in order."""
    parts = min(GRID, len(scores))
    quantiles = np.quantile(scores, (np.arange(parts) + 0.5) / parts, axis=0, method="nearest")
    return quantiles.astype(np.float32)


def draws_of(rows: Matrix) -> Draws:
    """Return a number in [0, 1) for each feature row, by its content: a decision that is repeated draws the same."""
    mixed = rows.view(np.uint32).astype(np.uint64) * np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64)
    scattered = mixed.sum(axis=1) * np.uint64(0x9E3779B97F4A7C15)
    drawn: Draws = (scattered >> np.uint64(11)) / np.float64(2**53)
    return drawn
