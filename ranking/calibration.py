"""Turns margins of the model into probabilities by a strictly rising curve, so that no ranking changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_SLOPE = 0.05
"""Between knots the log-odds rise at least this much per unit of margin: two different margins never tie."""
EDGE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Log-odds by margin: piecewise linear between knots, with `slope` beyond the last ones. Both ascend strictly."""

    margin: Floats
    log_odds: Floats
    slope: float = 1.0

    def __post_init__(self) -> None:
        sizes_match = len(self.margin) == len(self.log_odds) > 0
        if not (sizes_match and np.all(np.diff(self.margin) > 0) and np.all(np.diff(self.log_odds) > 0) and self.slope > 0):
            raise ValueError("the knots of a calibration must rise strictly")
        if not (np.isfinite(self.margin).all() and np.isfinite(self.log_odds).all()):
            raise ValueError("the knots of a calibration must be finite")

    def __call__(self, margin: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities of margins, float32 (n,)."""
        wide = margin.astype(np.float64)
        inside = np.interp(wide, self.margin, self.log_odds)
        beyond = np.minimum(wide - self.margin[0], 0.0) + np.maximum(wide - self.margin[-1], 0.0)
        probability: npt.NDArray[np.float32] = (1 / (1 + np.exp(-(inside + self.slope * beyond)))).astype(np.float32)
        return probability

    @staticmethod
    def identity() -> Calibration:
        """Return the curve that takes margins as log-odds."""
        return Calibration(np.zeros(1), np.zeros(1))


def fit(margin: npt.NDArray[np.float32], label: Bools, weight: Floats, knots: int = 12) -> Calibration:
    """Return the calibration of margins whose outcomes are known; the identity without both outcomes.

    Platt's straight line in log-odds (Platt 1999), refined by isotonic regression (Zadrozny and Elkan 2002) of what is
    left at quantiles of the positives, where there are enough of them to say more than a line does.
    """
    if label.all() or not label.any():
        return Calibration.identity()
    line = LogisticRegression(C=1e6).fit(margin[:, None].astype(np.float64), label, weight)
    slope, shift = max(float(line.coef_[0, 0]), LEAST_SLOPE), float(line.intercept_[0])
    knots = min(knots, int(label.sum()) // 30)
    if knots < 2:
        return Calibration(np.zeros(1), np.array([shift]), slope)
    return _refined(margin.astype(np.float64), label, weight, knots, slope)


def _refined(margin: Floats, label: Bools, weight: Floats, knots: int, slope: float) -> Calibration:
    edges = np.unique(np.quantile(margin[label], np.linspace(0, 1, knots + 1)[1:-1]))
    place = np.searchsorted(edges, margin, side="right")
    mass = np.bincount(place, weight, len(edges) + 1)
    centre = np.bincount(place, weight * margin, len(edges) + 1) / np.maximum(mass, EDGE)
    observed = np.bincount(place, weight * label, len(edges) + 1) / np.maximum(mass, EDGE)
    filled = np.flatnonzero(mass > 0)
    rising = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE).fit_transform(centre[filled], observed[filled], sample_weight=mass[filled])
    log_odds = np.log(rising / (1 - rising))
    floor = LEAST_SLOPE * (centre[filled] - centre[filled][0])
    return Calibration(centre[filled], np.maximum.accumulate(log_odds - floor) + floor, slope)
