"""What a row is worth where no model can say: by how much its reader does, how much the item draws, and how new it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.calibration import LEAST_OUTCOMES
from ranking.features import FEATURES
from ranking.past import Bools, Floats

MODEL_ID = "popularity"
"""What stands in the place of a model's id where popularity decided."""

SIGNALS = ("answers", "activity", "draw", "freshness")
USUAL_RATE = 0.05
RATE_SENDS = 20.0
"""What is believed of a reader of whom nothing is known: the share of sends that is answered, as if so many had been seen."""
PEOPLE = 5.0
"""People an item has drawn count beside so many, so that the first of them make no hit."""
DAY_H = 24.0
PENALTY = 1e-3

_COLUMNS = [FEATURES.index(name) for name in ("user_sent_28d", "user_answered_28d", "user_engaged_14d", "item_users_7d", "item_age_h")]


@dataclass(frozen=True)
class Worth:
    """A logistic regression on SIGNALS: `weights` of them and the `level` of its log-odds."""

    weights: tuple[float, ...]
    level: float

    def __post_init__(self) -> None:
        if len(self.weights) != len(SIGNALS) or not np.isfinite((*self.weights, self.level)).all():
            raise ValueError(f"the worth of popularity takes a finite level and weights of {', '.join(SIGNALS)}")

    def __call__(self, signals: Floats) -> npt.NDArray[np.float32]:
        """Return the probabilities of rows of signals, float32 (n,)."""
        return np.asarray(1 / (1 + np.exp(-(signals @ np.array(self.weights) + self.level))), np.float32)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"weights": dict(zip(SIGNALS, self.weights, strict=True)), "level": self.level}

    @staticmethod
    def from_json(worth: dict[str, Any]) -> Worth:
        """Return what was written down; raises KeyError, TypeError or ValueError where it is none."""
        return Worth(tuple(float(worth["weights"][name]) for name in SIGNALS), float(worth["level"]))


UNTRAINED = Worth((1.0, 0.0, 0.25, 0.0), 0.0)
"""Where nothing was learned: a reader's own rate, and not much more for what draws many."""


def signals(reader: npt.NDArray[Any], people: npt.NDArray[Any], age_h: npt.NDArray[Any]) -> Floats:
    """Return the signals of rows, float64 (n, 4), finite.

    `reader`: sends of the last 28 days, those of them that were answered, engagements of the last 14 days, decayed; (n, 3). `people`: who
    engaged with the item, decayed. `age_h`: its age in hours.
    """
    sent, answered, engaged, people, age_h = (
        np.maximum(np.nan_to_num(each.astype(np.float64), posinf=0.0), 0.0) for each in (*reader.T, people, age_h)
    )
    rate = (np.minimum(answered, sent) + USUAL_RATE * RATE_SENDS) / (sent + RATE_SENDS)
    odds = np.log(rate) - np.log1p(-np.minimum(rate, 1 - USUAL_RATE / RATE_SENDS))
    return np.stack([odds, np.log1p(engaged), np.log1p(people / PEOPLE), -np.log1p(age_h / DAY_H)], axis=1)


def signals_of(rows: Matrix) -> Floats:
    """Return the signals of feature rows."""
    found = rows[:, _COLUMNS]
    return signals(found[:, :3], found[:, 3], found[:, 4])


def fit(signals: Floats, label: Bools, weight: Floats) -> Worth:
    """Return what the signals are worth where outcomes are known; UNTRAINED with fewer than LEAST_OUTCOMES of a kind."""
    if min(label.sum(), (~label).sum()) < LEAST_OUTCOMES:
        return UNTRAINED
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=1 / PENALTY).fit(signals, label, weight / weight.mean())
    return Worth(tuple(found.coef_[0].tolist()), float(found.intercept_[0]))
