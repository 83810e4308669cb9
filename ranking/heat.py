"""How much engagement items have drawn lately, from their real-time counts: what trends, and what is popular."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ranking.blocks import DECAYED, ITEM_COUNTS
from ranking.rows import Records
from ranking.store import FeatureStore

BIAS = 1.0
"""People who are no trend yet."""

_PLACE = {name: place for place, name in enumerate(ITEM_COUNTS)}


def heat_of(store: FeatureStore, count: str) -> Callable[[Sequence[str], float], npt.NDArray[np.float64]]:
    """Return a function (item ids, now) -> the people who engaged with each item, decayed to `now`; one round trip.

    `count`: which decayed count of ranking.blocks.DECAYED, such as "users_1d".
    """

    def heat(item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        if not item_ids:
            return np.empty(0)
        return decayed(store.get([], item_ids).items, count, now)

    return heat


def burst_of(store: FeatureStore) -> Callable[[Sequence[str], float], npt.NDArray[np.float64]]:
    """Return a function (item ids, now) -> how far beyond its usual each item's engagement of the last day is; one round trip."""

    def burst(item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        if not item_ids:
            return np.empty(0)
        items = store.get([], item_ids).items
        return significance(decayed(items, "users_1d", now), decayed(items, "users_7d", now) * DECAYED["users_1d"] / DECAYED["users_7d"])

    return burst


def significance(lately: npt.NDArray[np.float64], usual: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return by how many standard deviations of a Poisson count `lately` exceeds `usual`, (n,) each; less where both are small.

    After SigniTrend (Schubert, Weiler & Kriegel 2014): what is usual comes from a slower moving average of the same stream, and a bias in
    the denominator keeps a few people from being a trend. What is new has no usual, what is read day after day no burst.
    """
    return np.asarray((lately - usual) / np.sqrt(usual + BIAS), np.float64)


def decayed(items: Records, count: str, now: float) -> npt.NDArray[np.float64]:
    """Return a decayed count of items (kind ITEM) as it is at `now` (seconds), shape (n,); nothing where nobody has engaged."""
    counts = items["counts"].astype(np.float64)
    age_s = np.maximum(now - counts[:, _PLACE["last_at"]], 0.0)
    found = counts[:, _PLACE[count]] * np.exp2(-age_s / DECAYED[count])
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
