"""A small, bounded chance for the next best rows of a window, with the exact probability of every row being sent. Pure.

After the best rows are taken, a user's window is explored with probability `share`: one of the possible swaps of a taken row for a
runner-up is made, each equally likely. A swap is possible where its outcome keeps every rule of the decision: no entity or item twice,
no channel beyond its allowance, the threshold beaten, and at least `least_value` of the value that gives way. So a row's propensity is
closed, as of an epsilon-greedy choice over swaps (Langford and Zhang 2007, for one place; Swaminathan et al. 2017 for slates):

    taken row t       1 - share x swaps that take t out / swaps of its user
    runner-up r       share x swaps that bring r in / swaps of its user
    any other         0, and 1 for a taken row of a user without a possible swap

Swaps keep the number of rows sent, so the propensities of a window sum to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.decisions import DUPLICATE, OVER_BUDGET, REASON, SEND
from lake.ids import Keys64, combine
from scheduler.decide import Rows

Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]
F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

MOST_SHARE = 0.5


@dataclass(frozen=True)
class ExploreConfig:
    """How much is explored. `share`: of the windows, 0: none. `reach`: runners-up per window that may come in, the best ones.

    `least_value`: share of the value of the row that gives way that the other must be worth.
    """

    share: float = 0.0
    reach: int = 5
    least_value: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.share <= MOST_SHARE and self.reach >= 1 and 0 <= self.least_value <= 1):
            raise ValueError(f"exploration takes a share of 0 to {MOST_SHARE}, a reach of 1 or more and a least value of 0 to 1")


@dataclass(frozen=True)
class Swaps:
    """The possible swaps, by user: rows `out` and `into`, and per swap the number of its user's, each (swaps,)."""

    out: Places
    into: Places
    of_user: Places


def explore(
    rows: Rows, allowance: npt.NDArray[np.int16], decided: tuple[Codes, Codes], draws: Floats, config: ExploreConfig
) -> tuple[Codes, Codes, F32]:
    """Return disposition, reason and propensity of each row, (n,) each, after the windows that `draws` says have been explored.

    `rows`, `allowance`, `decided`: what `decide` was given and what it returned. `draws`: float64 (2, users) in [0, 1), whether a user's
    window is explored and which swap it is.
    """
    disposition, reason = decided
    propensity = (disposition == SEND).astype(np.float32)
    if config.share == 0:
        return disposition, reason, propensity
    swaps = possible(rows, allowance, disposition, config)
    disposition, reason = disposition.copy(), reason.copy()
    chance = (config.share / swaps.of_user).astype(np.float32)
    np.subtract.at(propensity, swaps.out, chance)
    np.add.at(propensity, swaps.into, chance)
    made = _drawn(rows, swaps, draws, config.share)
    out, into = swaps.out[made], swaps.into[made]
    disposition[out], reason[out] = OVER_BUDGET, REASON["window_full"]
    disposition[into], reason[into] = SEND, REASON["explored"]
    return disposition, reason, propensity


def possible(rows: Rows, allowance: npt.NDArray[np.int16], disposition: Codes, config: ExploreConfig) -> Swaps:
    """Return the possible swaps of every user, ordered by user."""
    taken = np.flatnonzero((disposition == SEND) & ~rows.critical)
    runners = _best(rows, np.flatnonzero((disposition == OVER_BUDGET) | (disposition == DUPLICATE)), taken, config.reach)
    left = allowance.astype(np.int64)
    np.subtract.at(left, (rows.user[taken], rows.channel[taken]), 1)
    first, last = (np.searchsorted(rows.user[taken], rows.user[runners], side=side) for side in ("left", "right"))
    pairs = last - first
    runner = np.repeat(np.arange(len(runners)), pairs)
    into = runners[runner]
    out = taken[np.arange(len(into)) - np.repeat(np.cumsum(pairs) - pairs, pairs) + first[runner]]
    clash = (rows.entity[into] == rows.entity[out]) | (rows.item[into] == rows.item[out])
    clashes = np.bincount(runner, clash, len(runners))[runner]
    has_room = (rows.channel[into] == rows.channel[out]) | (left[rows.user[into], rows.channel[into]] > 0)
    worth = rows.value[into] >= config.least_value * rows.value[out]
    kept = np.flatnonzero((clashes == clash) & has_room & worth)
    kept = kept[np.argsort(rows.user[out[kept]], kind="stable")]
    user = rows.user[out[kept]]
    return Swaps(out[kept], into[kept], np.bincount(user, minlength=len(allowance))[user])


def _best(rows: Rows, runners: Places, taken: Places, reach: int) -> Places:
    """Return the best `reach` runners-up of each user who has a taken row."""
    runners = runners[np.isin(rows.user[runners], rows.user[taken])]
    order = runners[np.lexsort((-rows.value[runners], rows.user[runners]))]
    user = rows.user[order]
    return order[np.arange(len(order)) - np.searchsorted(user, user) < reach]


def _drawn(rows: Rows, swaps: Swaps, draws: Floats, share: float) -> Places:
    """Return the swaps that are made, at most one per user."""
    if not len(swaps.out):
        return np.empty(0, np.intp)
    users, start = np.unique(rows.user[swaps.out], return_index=True)
    chosen = start + np.minimum((draws[1, users] * swaps.of_user[start]).astype(np.intp), swaps.of_user[start] - 1)
    made: Places = chosen[draws[0, users] < share]
    return made


def draws_of(decision: Keys64, user: Keys64) -> Floats:
    """Return the draws of users, float64 (2, users) in [0, 1): the same ones whenever the same decision is repeated.

    `decision`, `user`: keys, (users,). A retry after a lost reply must propose what the first try did.
    """
    return np.stack([(combine(decision, user, np.full(len(user), salt)) >> np.uint64(11)) / np.float64(2**53) for salt in (1, 2)])
