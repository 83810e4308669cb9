"""How many times as much of one policy's sends is engaged with as of another's, and how sure that is. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranking.evaluation import LEVEL, Resampled
from simulation.outcomes import DAY, engaged_at


def beside(
    mine: pd.DataFrame, others: pd.DataFrame, events: pd.DataFrame, *, horizon_days: int, known_until: pd.Timestamp
) -> dict[str, Any]:
    """Return `ratio`, engaged per send of one policy over another's, with the interval over draws of users told by either.

    `mine`, `others`: user_id, item_id, at of their sends; only those count whose horizon is over by `known_until`. Both policies tell the
    same people, so that each draw takes the same people for both. None where the other's sends are never engaged with; an end of the
    interval is None, open, where they rarely are.
    """
    sides = [_known(sends, events, horizon_days, known_until) for sends in (mine, others)]
    users = pd.Index(sides[0]["user_id"]).union(pd.Index(sides[1]["user_id"])).unique()
    if not len(users):
        return {"ratio": None, "interval_95": None}
    times = Resampled.of(np.arange(len(users))).times
    (my_engaged, my_sends), (their_engaged, their_sends) = (_per_user(side, users) for side in sides)
    every = np.ones((1, len(users)))

    def ratio(drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (drawn @ my_engaged / (drawn @ my_sends)) / (drawn @ their_engaged / (drawn @ their_sends))

    of_all, of_draws = float(ratio(every)[0]), ratio(times)
    if not np.isfinite(of_all):
        return {"ratio": None, "interval_95": None}
    edges = np.quantile(of_draws[~np.isnan(of_draws)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return {"ratio": of_all, "interval_95": [float(edge) if np.isfinite(edge) else None for edge in edges]}


def _known(sends: pd.DataFrame, events: pd.DataFrame, horizon_days: int, known_until: pd.Timestamp) -> pd.DataFrame:
    known = sends[sends["at"] + horizon_days * DAY <= known_until].reset_index(drop=True)
    return known[["user_id"]].assign(engaged=engaged_at(known, events) - known["at"] <= horizon_days * DAY)


def _per_user(side: pd.DataFrame, users: pd.Index[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    place = users.get_indexer(pd.Index(side["user_id"]))
    engaged, sends = side["engaged"].to_numpy(np.float64), np.ones(len(side))
    return np.bincount(place, engaged, len(users)).astype(np.float64), np.bincount(place, sends, len(users)).astype(np.float64)
