"""What a row is worth where no model can say: how often its reader answers and how much the item draws, calibrated in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import USER_STATS, Matrix
from ranking.calibration import Calibration
from ranking.features import FEATURES
from ranking.heat import decayed
from ranking.scorer import Scores
from ranking.store import FeatureStore
from ranking.value import value_of

MODEL_ID = "popularity"
"""What stands in the place of a model's id where popularity decided."""

USUAL_RATE = 0.05
RATE_SENDS = 20.0
"""What is believed of a reader of whom nothing is known: the share of sends that is answered, as if so many had been seen."""
PEOPLE = 5.0
"""Added to the people an item has drawn, so that a few readers make no hit."""

UNTRAINED = Calibration(np.array([np.log(USUAL_RATE / (1 - USUAL_RATE))]), np.array([np.log(USUAL_RATE / (1 - USUAL_RATE))]), slope=0.25)
"""The curve where none was trained: nobody is far from the usual rate."""

_SENT, _ANSWERED = USER_STATS.index("sent_28d"), USER_STATS.index("answered_28d")
_COUNT = "users_7d"
_COLUMNS = [FEATURES.index(name) for name in ("user_sent_28d", "user_answered_28d", "item_users_7d")]


@dataclass(frozen=True)
class Popularity:
    """Scores by popularity. `curve`: moment -> the calibration of margins then. Blocks for the store, one round trip."""

    store: FeatureStore
    curve: Callable[[float], Calibration] = lambda _: UNTRAINED

    def score(
        self,
        users: Sequence[str],
        items: Sequence[str],
        user: npt.NDArray[np.int32],
        item: npt.NDArray[np.int32],
        now: float,
    ) -> Scores:
        """Return the scores of rows, codes `user` and `item` into `users` and `items`; their model id is MODEL_ID."""
        found = self.store.get(users, items)
        stats = found.users.stats
        margin = margins(stats[user, _SENT], stats[user, _ANSWERED], decayed(found.items, _COUNT, now)[item])
        probability = self.curve(now)(margin)
        known_item = np.isfinite(found.items["counts"][:, -1])
        return Scores(probability, value_of(probability), MODEL_ID, found.known, known_item)


def margins(sent: npt.NDArray[Any], answered: npt.NDArray[Any], people: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the log-odds of rows before calibration, float32 (n,): those of how often the reader answers, plus the item's draw.

    `sent`, `answered`: sends of the last 28 days and those of them that were answered. `people`: who engaged, decayed.
    """
    sent, answered, people = (np.maximum(np.nan_to_num(each.astype(np.float64)), 0.0) for each in (sent, answered, people))
    rate = (np.minimum(answered, sent) + USUAL_RATE * RATE_SENDS) / (sent + RATE_SENDS)
    odds = np.log(rate) - np.log1p(-np.minimum(rate, 1 - USUAL_RATE / RATE_SENDS))
    return np.asarray(odds + np.log1p(people / PEOPLE), np.float32)


def margins_of(rows: Matrix) -> npt.NDArray[np.float32]:
    """Return the same of feature rows."""
    return margins(*rows[:, _COLUMNS].T)
