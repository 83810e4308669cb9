"""What a row is worth where no model can say: by what its reader does, what the item draws, how new it is, and how much else there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from ranking.blocks import Matrix
from ranking.calibration import LEAST_OUTCOMES
from ranking.features import FEATURES
from ranking.past import Bools, Floats

MODEL_ID = "popularity"
"""What stands in the place of a model's id where popularity decided."""

SIGNALS = ("answers", "activity", "draw", "freshness", "scarcity")
USUAL_RATE = 0.05
RATE_SENDS = 20.0
"""What is believed of a reader of whom nothing is known: the share of sends that is answered, as if so many had been seen."""
PEOPLE = 5.0
"""People an item has drawn count beside so many, so that the first of them make no hit."""
DAY_H = 24.0
LATELY_S = 14 * 86400.0
"""Items of so long compete for a reader, who has time for so many: where fewer come, more of each is engaged with."""
PENALTY = 1e-3
SCARCITY = 0.5
"""The weight of scarcity: halfway between readers who take in whatever comes (0) and readers who take in so much a week (1). It is not
learned: how much comes changes too slowly for what is known of one deployment to tell it from the season."""
_SCARCITY = SIGNALS.index("scarcity")

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
        """Return what was written down; raises KeyError, TypeError or ValueError where it is none. Older ones know no scarcity."""
        weights = {"scarcity": 0.0} | worth["weights"]
        return Worth(tuple(float(weights[name]) for name in SIGNALS), float(worth["level"]))


UNTRAINED = Worth((1.0, 0.0, 0.25, 0.0, 0.0), 0.0)
"""Where nothing was learned: a reader's own rate, and not much more for what draws many."""


def born_lately(created_at: Floats, is_topical: Bools, row_is_topical: Bools, at: Floats) -> Floats:
    """Return how many items without a topic were born in the two weeks up to each row's moment, 0 for rows of an item with one; (n,).

    `created_at`, `is_topical`: of all items, in any order. `row_is_topical`, `at`: of the rows, (n,). Items without a topic are for
    everybody and compete with one another; of those with one, readers are told of their own, and between topics their number says nothing.
    """
    born = np.sort(created_at[~is_topical])
    lately = np.searchsorted(born, at, side="right") - np.searchsorted(born, at - LATELY_S, side="right")
    return np.where(row_is_topical, 0.0, lately)


def signals(reader: npt.NDArray[Any], people: npt.NDArray[Any], age_h: npt.NDArray[Any], born: npt.NDArray[Any]) -> Floats:
    """Return the signals of rows, float64 (n, 5), finite.

    `reader`: sends of the last 28 days, those of them that were answered, engagements of the last 14 days, decayed; (n, 3). `people`: who
    engaged with the item, decayed. `age_h`: its age in hours. `born`: see born_lately.
    """
    sent, answered, engaged, people, age_h, born = (
        np.maximum(np.nan_to_num(each.astype(np.float64), posinf=0.0), 0.0) for each in (*reader.T, people, age_h, born)
    )
    rate = (np.minimum(answered, sent) + USUAL_RATE * RATE_SENDS) / (sent + RATE_SENDS)
    odds = np.log(rate) - np.log1p(-np.minimum(rate, 1 - USUAL_RATE / RATE_SENDS))
    told = (odds, np.log1p(engaged), np.log1p(people / PEOPLE), -np.log1p(age_h / DAY_H), -np.log1p(born))
    return np.stack(told, axis=1)


def signals_of(rows: Matrix, born: npt.NDArray[Any]) -> Floats:
    """Return the signals of feature rows; `born`: see signals."""
    found = rows[:, _COLUMNS]
    return signals(found[:, :3], found[:, 3], found[:, 4], born)


def fit(signals: Floats, label: Bools, weight: Floats) -> Worth:
    """Return what the signals are worth where outcomes are known; UNTRAINED with fewer than LEAST_OUTCOMES of a kind."""
    if min(label.sum(), (~label).sum()) < LEAST_OUTCOMES:
        return UNTRAINED
    # Not a library's regression: what scarcity adds is given, and scikit-learn's takes no offset.
    known, share, weight = SCARCITY * signals[:, _SCARCITY], signals[:, :_SCARCITY], weight / weight.sum()

    def loss(found: Floats) -> tuple[float, Floats]:
        """Return the penalised log loss of weights and level, and its slope."""
        log_odds = share @ found[:-1] + found[-1] + known
        off = weight * (scipy.special.expit(log_odds) - label)
        penalty = PENALTY / len(label) * found[:-1]
        total = float(weight @ (np.logaddexp(0, log_odds) - label * log_odds) + penalty @ found[:-1] / 2)
        return total, np.append(share.T @ off + penalty, off.sum())

    begin = np.zeros(len(SIGNALS))
    begin[-1] = scipy.special.logit(float(weight @ label)) - float(weight @ known)
    found = scipy.optimize.minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-9}).x
    return Worth((*found[:-1].tolist(), SCARCITY), float(found[-1]))
