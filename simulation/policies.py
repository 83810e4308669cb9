"""Ways to rank that a replay compares at equal volume: the model, and what people do without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates, Lane
from lake.ids import combine, hash64
from lake.items import ItemTable
from scheduler.sources.trending import Heat
from simulation.playback import Engagements

PolicyName = Literal["ranked", "popular", "recent", "random", "popular_week"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COMPARED: tuple[PolicyName, ...] = ("ranked", "popular", "recent", "random")
"""What a replay compares where nobody says what."""

WEEK_S = 7 * 86400.0

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """Scores whose value is the probability, and the policy's name for a model."""

    probability: F32
    model_id: str

    @property
    def value(self) -> F32:
        """The probability."""
        return self.probability


@dataclass(frozen=True)
class ByItem:
    """Ranks by something of the item alone; `of` gives it for distinct items at a time, scaled into (0, 1)."""

    name: str
    of: Callable[[Sequence[str], float], npt.NDArray[np.float64]]

    def __call__(self, rows: Candidates, _channels: tuple[str, ...], now: float, _lane: Lane, /) -> Ranked:
        """See scheduler.pipeline.Scorer."""
        return Ranked(self.of(rows.items, now).astype(np.float32)[rows.item], self.name)


@dataclass(frozen=True)
class Random:
    """Ranks at random, the same way each time for one seed."""

    seed: int = 0

    def __call__(self, rows: Candidates, _channels: tuple[str, ...], _now: float, _lane: Lane, /) -> Ranked:
        """See scheduler.pipeline.Scorer."""
        keys = combine(hash64(rows.users)[rows.user], hash64(rows.items)[rows.item], np.full(len(rows), self.seed))
        return Ranked((keys / np.float64(2**64)).astype(np.float32), "random")


def popular(heat: Heat) -> ByItem:
    """Return the policy that sends what most people engaged with lately, by a count that fades."""

    def share(item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        hot = heat(item_ids, now)
        return hot / (1 + hot)

    return ByItem("popular", share)


def popular_week(engagements: Engagements) -> ByItem:
    """Return the policy that sends what most people engaged with in the last seven days, the first of them counting as much as the last.

    That is the usual meaning of popular. A count that fades (`popular`) is the harder one to beat where items are soon over.
    """

    def share(item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        lately = engagements.between(now - WEEK_S, now)
        lately = lately.take(lately.counts)
        _, first = np.unique(combine(hash64(lately.user), lately.item_key), return_index=True)
        keys, people = np.unique(lately.item_key[first], return_counts=True)
        place = np.searchsorted(keys, wanted := hash64(item_ids))
        found = np.append(keys, np.uint64(0))[place] == wanted
        count = np.where(found, np.append(people, 0)[place], 0).astype(np.float64)
        return count / (1 + count)

    return ByItem("popular_week", share)


def recent(table: ItemTable) -> ByItem:
    """Return the policy that sends what is newest; freshness halves every day."""

    def freshness(item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        items, rows = table.with_missing(item_ids)
        return np.exp2(-np.maximum(now - items.created_at[rows], 0) / 86400)

    return ByItem("recent", freshness)
