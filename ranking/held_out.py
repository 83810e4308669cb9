"""Whole sets of candidates of later moments, to measure rankings on: nothing drawn, nothing weighed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.evaluation import Resampled, ndcg_each
from ranking.examples import Candidates, ExampleRule, Rows
from ranking.features import FEATURES
from ranking.join import features_at
from ranking.labels import DAY_S, is_over
from ranking.offline import State
from ranking.training_set import candidates_only

STEP_S = 2 * DAY_S
MOST_ROWS = 150_000


@dataclass(frozen=True)
class HeldOut:
    """The decisions of some moments that had a right answer: a user's choice among young items, an item's choice of an audience.

    `group`: the decision a row belongs to. `owner`: the user, or the item at its birth, that intervals resample.
    """

    rows: Rows
    matrix: Matrix
    group: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]

    @staticmethod
    def of(state: State, since: float, until: float, rule: ExampleRule) -> HeldOut:
        """Return the decisions every two days in [since, until) whose label window is over by `until`, latest first."""
        candidates = Candidates(state.past, rule)
        parts: list[Rows] = []
        groups: list[npt.NDArray[np.int64]] = []
        since = max(since, float(state.past.at.min(initial=until)))  # before the log begins there is nobody to decide for
        moments = np.arange(until - rule.label.window_s - DAY_S, since, -STEP_S)
        for place, at in enumerate(moments.tolist()):
            for is_birth, everyone in enumerate((candidates.alive(at), candidates.born(np.floor(at / DAY_S) * DAY_S))):
                known = everyone.take(is_over(everyone.at, until, rule.label) & (everyone.at >= since))
                owner = (known.item if is_birth else known.user).astype(np.int64) * 2 + is_birth
                # The others say nothing of a ranking, and computing their features takes long.
                answered = np.isin(owner, owner[known.label])
                parts.append(known.take(answered))
                groups.append(np.stack([owner + place * 2**33, owner])[:, answered])
            if sum(map(len, parts)) > MOST_ROWS:
                break
        rows = Rows.concat(parts) if parts else candidates.alive(since).take(np.empty(0, np.intp))
        group, owner = np.concatenate(groups, axis=1) if groups else np.empty((2, 0), np.int64)
        channel, _ = candidates_only(rows)
        return HeldOut(rows, features_at(state, rows.user, rows.item, channel, rows.at), group, owner)

    @cached_property
    def _draws(self) -> tuple[npt.NDArray[np.int64], Resampled]:
        decisions, first = np.unique(self.group, return_index=True)
        return decisions, Resampled.of(self.owner[first])

    def ndcg(self, score: npt.NDArray[Any]) -> float:
        """Return the NDCG@5 of a score, NaN where nothing was held out."""
        each = ndcg_each(self.group, score, self.rows.label)[1]
        return float(each.mean()) if len(each) else float("nan")

    def measured(self, score: npt.NDArray[Any]) -> dict[str, Any]:
        """Return the NDCG@5 of a score and its interval, resampling users (and, at birth, items)."""
        decisions, each = ndcg_each(self.group, score, self.rows.label)
        if not len(each):
            return {"ndcg_at_5": float("nan"), "interval_95": [float("nan")] * 2}
        known, draws = self._draws
        assert np.array_equal(known, decisions)
        return {"ndcg_at_5": float(each.mean()), "interval_95": list(draws.mean(each))}

    def better(self, score: npt.NDArray[Any], other: npt.NDArray[Any]) -> list[float]:
        """Return the interval of how much a score's NDCG@5 exceeds another's, on the same draws of users."""
        if not len(self.group):
            return [float("nan")] * 2
        mine, others = (ndcg_each(self.group, values, self.rows.label)[1] for values in (score, other))
        return list(self._draws[1].mean(mine - others))

    def baselines(self) -> dict[str, npt.NDArray[Any]]:
        """Return the scores of ranking at random, by popularity and by age."""
        column = {name: self.matrix[:, place] for place, name in enumerate(FEATURES)}
        random = np.random.default_rng(0).random(len(self.rows))
        return {"random": random, "popular": column["item_users_7d"], "newest": -column["item_age_h"]}
