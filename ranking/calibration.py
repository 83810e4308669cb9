"""Turns margins of the model into probabilities by a strictly rising curve, so that no ranking changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_SLOPE = 0.05
"""Between knots the log-odds rise at least this much per unit of margin: two different margins never tie."""
EDGE = 1e-6
FURTHEST_LOG_ODDS = 80.0
"""Keeps probabilities above zero in float32."""
LEAST_OUTCOMES = 10
LEVELLING_STEPS = 12
PRIOR_POSITIVES = 100.0
"""How many engagements Platt's line counts for between two knots. One engagement labels rows of several days and people come in
bursts, so that fewer would let the weather of a few weeks bend the curve."""


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
        probability: npt.NDArray[np.float32] = (1 / (1 + np.exp(-self.log_odds_of(margin)))).astype(np.float32)
        return probability

    def log_odds_of(self, margin: npt.NDArray[np.float32]) -> Floats:
        """Return the calibrated log-odds of margins, float64 (n,)."""
        wide = margin.astype(np.float64)
        beyond = np.minimum(wide - self.margin[0], 0.0) + np.maximum(wide - self.margin[-1], 0.0)
        log_odds: Floats = np.interp(wide, self.margin, self.log_odds) + self.slope * beyond
        return np.clip(log_odds, -FURTHEST_LOG_ODDS, FURTHEST_LOG_ODDS)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"margin": self.margin.tolist(), "log_odds": self.log_odds.tolist(), "slope": self.slope}

    @staticmethod
    def from_json(curve: dict[str, Any]) -> Calibration:
        """Return a curve that was written down; raises KeyError, TypeError or ValueError where it is none."""
        return Calibration(np.array(curve["margin"], np.float64), np.array(curve["log_odds"], np.float64), float(curve["slope"]))

    @staticmethod
    def identity() -> Calibration:
        """Return the curve that takes margins as log-odds."""
        return Calibration(np.zeros(1), np.zeros(1))


def fit(margin: npt.NDArray[np.float32], label: Bools, weight: Floats, knots: int = 6) -> Calibration:
    """Return the calibration of margins whose outcomes are known; the identity with fewer than LEAST_OUTCOMES of a kind.

    Platt's straight line in log-odds (Platt 1999), refined by isotonic regression (Zadrozny and Elkan 2002) of what is
    left at quantiles of the positives, where there are enough of them to say more than a line does.
    """
    if min(label.sum(), (~label).sum()) < LEAST_OUTCOMES:
        return Calibration.identity()
    platt = moved(Calibration.identity(), margin, label, weight)
    knots = min(knots, int(label.sum()) // 30)
    return platt if knots < 2 else _refined(margin, label, weight, knots, platt)


def moved(curve: Calibration, margin: npt.NDArray[np.float32], label: Bools, weight: Floats) -> Calibration:
    """Return a curve with Platt's straight line on top of its log-odds: its shape stays, its level and steepness follow these rows.

    Takes far fewer outcomes than a curve of its own: two numbers are learned.
    """
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=1e6).fit(curve.log_odds_of(margin)[:, None], label, weight)
    slope, shift = max(float(line.coef_[0, 0]), LEAST_SLOPE), float(line.intercept_[0])
    found = Calibration(curve.margin, slope * curve.log_odds + shift, slope * curve.slope)
    return found if line.coef_[0, 0] >= LEAST_SLOPE else _levelled(found, margin, label, weight)


def _levelled(curve: Calibration, margin: npt.NDArray[np.float32], label: Bools, weight: Floats) -> Calibration:
    """Return the curve moved, by Newton's method, so that it expects as much as came: a line forced to rise has another level."""
    log_odds, shift = curve.log_odds_of(margin), 0.0
    for _ in range(LEVELLING_STEPS):
        told = 1 / (1 + np.exp(-(log_odds + shift)))
        steepness = float((weight * told * (1 - told)).sum())
        shift -= float(np.clip((weight * (told - label)).sum() / max(steepness, EDGE), -1.0, 1.0))
    return Calibration(curve.margin, curve.log_odds + shift, curve.slope)


def _refined(margin: npt.NDArray[np.float32], label: Bools, weight: Floats, knots: int, platt: Calibration) -> Calibration:
    """Return the curve through what was observed between quantiles of all rows and of positives, shrunk to Platt's line."""
    from sklearn.isotonic import IsotonicRegression

    inner = np.linspace(0, 1, knots + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(margin, inner), np.quantile(margin[label], inner)]))
    place = np.searchsorted(edges, margin, side="right")

    def total(values: npt.NDArray[Any]) -> Floats:
        return np.bincount(place, weight * values, len(edges) + 1).astype(np.float64)

    mass = total(np.ones(len(margin)))
    filled = mass > 0
    mass = mass[filled]
    centre, expected = total(margin)[filled] / mass, total(platt(margin))[filled] / mass
    per_positive = float(weight[label].mean())
    prior = PRIOR_POSITIVES * per_positive / expected
    observed = (total(label)[filled] + prior * expected) / (mass + prior)
    rising = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE).fit_transform(centre, observed, sample_weight=mass)
    floor = LEAST_SLOPE * (centre - centre[0])
    return Calibration(centre, np.maximum.accumulate(np.log(rising / (1 - rising)) - floor) + floor, platt.slope)
