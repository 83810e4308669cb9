"""How long ago users were last seen, from their rows of the last refresh: a day's refresh may not know of today yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ranking.blocks import USER_STATS
from ranking.store import FeatureStore

_RECENCY_H = USER_STATS.index("recency_h")


def unseen_of(store: FeatureStore) -> Callable[[Sequence[str], float], npt.NDArray[np.float64]]:
    """Return a function (user ids, now) -> seconds since each was last seen, NaN: never, or not by the last refresh; one round trip."""

    def unseen(user_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        if not user_ids:
            return np.empty(0)
        found = store.get(user_ids, [])
        since_s = found.users.stats[:, _RECENCY_H].astype(np.float64) * 3600 + np.maximum(now - found.users.as_of, 0.0)
        return np.where(found.known, since_s, np.nan)

    return unseen
