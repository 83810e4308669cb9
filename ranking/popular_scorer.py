"""Scores rows by popularity, from what is served for the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable
from ranking.blocks import USER_STATS
from ranking.heat import decayed
from ranking.popularity import MODEL_ID, UNTRAINED, Worth, born_lately, signals
from ranking.scorer import Scores
from ranking.store import FeatureStore
from ranking.value import value_of

_READER = [USER_STATS.index(name) for name in ("sent_28d", "answered_28d", "engaged_14d")]
_DRAW = "users_7d"


@dataclass(frozen=True)
class Popularity:
    """Scores by popularity. `table`: the items, kept in step by their owner. `worth`: moment -> what the signals are worth then.

    Blocks for the store, a round trip, and one more where items are not in the table.
    """

    store: FeatureStore
    table: ItemTable
    worth: Callable[[float], Worth] = lambda _: UNTRAINED

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
        known, row = self.table.with_missing(items)
        created_at = np.append(known.created_at, np.nan)[row]
        people = decayed(found.items, _DRAW, now)
        is_topical, there = np.append(known.topics[:, 0] != 0, False)[row], self.table.items
        born = born_lately(there.created_at, there.topics[:, 0] != 0, is_topical, np.full(len(row), now))
        told = signals(found.users.stats[:, _READER][user], people[item], ((now - created_at) / 3600.0)[item], born[item])
        probability = self.worth(now)(told)
        return Scores(probability, value_of(probability), MODEL_ID, found.known, np.isfinite(found.items["counts"][:, -1]))
