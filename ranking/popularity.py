"""What a row is worth where no model can say: how often its reader answers, times how much the item draws beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lake.items import ItemTable
from ranking.blocks import USER_STATS
from ranking.heat import decayed, heat_of
from ranking.scorer import Scores
from ranking.store import FeatureStore
from ranking.value import value_of

MODEL_ID = "popularity"
"""What stands in the place of a model's id where popularity decided."""

_SENT, _ANSWERED = USER_STATS.index("sent_28d"), USER_STATS.index("answered_28d")
_COUNT = "users_7d"


@dataclass(frozen=True)
class PopularityRule:
    """What is believed before anything is known, and how far a score may go.

    `rate`: share of sends that are answered, as if `sends` had been seen. `people`: added to every item's count, so that a few readers
    make no hit. `least_lift`, `most_lift`: how much an item's draw may change its reader's rate. `least`, `most`: ends of the score.
    `typical_items`: of the newest items, those that say what is typical. `fresh_s`: for how long they do.
    """

    rate: float = 0.05
    sends: float = 20.0
    people: float = 5.0
    least_lift: float = 0.25
    most_lift: float = 4.0
    least: float = 0.001
    most: float = 0.5
    typical_items: int = 2_000
    fresh_s: float = 60.0


@dataclass
class Popularity:
    """Scores by popularity. `table`: the items, kept in step by their owner. Blocks for the store: a round trip, and one more a minute."""

    store: FeatureStore
    table: ItemTable
    rule: PopularityRule = field(default_factory=PopularityRule)
    _typical: tuple[float, float] | None = None

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
        rate = answer_rates(found.users.stats[:, _SENT], found.users.stats[:, _ANSWERED], self.rule)
        draw = lifts(decayed(found.items, _COUNT, now), self._typical_people(now), self.rule)
        probability = np.clip(rate[user] * draw[item], self.rule.least, self.rule.most).astype(np.float32)
        known_item = np.isfinite(found.items["counts"][:, -1])
        return Scores(probability, value_of(probability), MODEL_ID, found.known, known_item)

    def _typical_people(self, now: float) -> float:
        """Return how many people a typical item of late has drawn."""
        if self._typical is None or not 0 <= now - self._typical[0] < self.rule.fresh_s:
            newest = np.argsort(-self.table.items.created_at, kind="stable")[: self.rule.typical_items]
            people = heat_of(self.store, _COUNT)(self.table.items.ids[newest].tolist(), now)
            self._typical = (now, float(people.mean()) if len(people) else 0.0)
        return self._typical[1]


def answer_rates(sent: npt.NDArray[np.floating], answered: npt.NDArray[np.floating], rule: PopularityRule) -> npt.NDArray[np.float64]:
    """Return the share of sends each reader answers, float64 (U,): the one seen, drawn towards the prior by `rule.sends` sends."""
    sent, answered = np.nan_to_num(sent.astype(np.float64)), np.nan_to_num(answered.astype(np.float64))
    return np.asarray((np.minimum(answered, sent) + rule.rate * rule.sends) / (sent + rule.sends))


def lifts(people: npt.NDArray[np.float64], typical: float, rule: PopularityRule) -> npt.NDArray[np.float64]:
    """Return how much more than a typical item each draws, float64 (I,), within the rule's ends; about 1 on average."""
    return np.clip((people + rule.people) / (typical + rule.people), rule.least_lift, rule.most_lift)
