"""What counts as caring, and how much: labels of rows from what followed the moment they could have been told. Pure.

docs/labels.md says when to use which, and how each one fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.kinds import NO_ENGAGEMENT

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

DAY_S = 86400.0


@dataclass(frozen=True)
class LabelRule:
    """Which events are engagements, how soon they must come and what each is worth.

    `window_s`: an engagement counts when it comes within this time after the moment, at the moment included.
    `ignored`: kinds that are no engagement. `weak`: kinds of less commitment than the rest; `weak_weight`: what one is worth.
    `worth`: (kind, what one is worth) of kinds with a worth of their own, above 0 and at most 1.
    """

    window_s: float = 7 * DAY_S
    ignored: frozenset[str] = NO_ENGAGEMENT
    weak: frozenset[str] = frozenset({"visit", "view", "open", "click"})
    weak_weight: float = 0.3
    worth: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for kind, worth in (("weak", self.weak_weight), *self.worth):
            if not 0 < worth <= 1:
                raise ValueError(f"an engagement of kind {kind} must be worth more than 0 and at most 1, not {worth}")
        if not self.window_s > 0:
            raise ValueError(f"the label window must be longer than {self.window_s} s")

    def is_engagement(self, kinds: npt.NDArray[np.object_]) -> Bools:
        """Return which kinds are engagements at all, shape (n,)."""
        return np.fromiter((kind not in self.ignored for kind in kinds), bool, len(kinds))

    def weights(self, kinds: npt.NDArray[np.object_]) -> Floats:
        """Return what an engagement of each kind is worth, shape (n,); 0: not an engagement."""
        own = dict(self.worth)
        worth = {kind: own.get(kind, self.weak_weight if kind in self.weak else 1.0) for kind in set(kinds) - self.ignored}
        return np.fromiter((worth.get(kind, 0.0) for kind in kinds), np.float64, len(kinds))


def label(at: Floats, engaged_at: Floats, rule: LabelRule) -> Bools:
    """Return whether the first engagement (NaN: none) of each row came in [at, at + window), shape (n,).

    What the engagement came through does not matter: a room that was joined without a tap on its notification counts.
    """
    return (engaged_at >= at) & (engaged_at < at + rule.window_s)


def is_known(at: Floats, engaged_at: Floats, until: float, rule: LabelRule) -> Bools:
    """Return which rows have a label at `until`: the window is over, or the engagement came already.

    A younger row without an engagement is not a negative; keeping only the young positives would bias the model, so
    training uses rows whose window is over: see `is_over`.
    """
    return is_over(at, until, rule) | label(at, engaged_at, rule)


def is_over(at: Floats, until: float, rule: LabelRule) -> Bools:
    """Return which rows' windows are over at `until`: those that may be trained on, whatever their label."""
    return at + rule.window_s <= until


def graded(at: Floats, first_at: Floats, worth: Floats, rule: LabelRule) -> Floats:
    """Return the worth of the best engagement within each row's window, shape (n,), 0: none.

    `first_at` (n, levels): each row's first engagement at or after its moment that is worth `worth` (levels,), NaN: none.
    """
    within = label(at[:, None], first_at, rule)
    best: Floats = np.where(within, worth, 0.0).max(axis=1, initial=0.0)
    return best


def local_day(at: Floats, offset_minutes: Floats) -> Ints:
    """Return the local day of moments, counted from 1970-01-01, shape (n,); `at` seconds UTC."""
    return np.floor((at + 60 * offset_minutes) / DAY_S).astype(np.int64)


def collapsed(user: Ints, day: Ints, entity: Ints, at: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows that remain when a day's updates of one entity to a user are one, and each row's place among them.

    The earliest remains: it is the one that was worth deciding on, the later ones replace it on the screen.
    """
    order = np.lexsort((at, entity, day, user))
    change = [column[order][1:] != column[order][:-1] for column in (user, day, entity)]
    starts = np.append(True, np.logical_or.reduce(change)) if len(order) else np.empty(0, bool)
    place = np.empty(len(order), np.intp)
    place[order] = np.cumsum(starts) - 1
    return order[starts], place


def discounted(user: Ints, day: Ints, relevant: Bools) -> Floats:
    """Return 1 / n for a relevant row, n being the user's relevant rows of that day, and 0 for the rest, shape (n,).

    All rows of a user and day sum to 1 where anything was relevant, so that the first relevant notification of a quiet
    user counts as much as ten of a busy one; a model of it is a regression. Collapse updates first. Source: Clubhouse.
    """
    _, codes = np.unique(np.stack([user, day], axis=1), axis=0, return_inverse=True)
    codes = codes.ravel()
    count = np.bincount(codes, relevant) if len(codes) else np.empty(0)
    return np.where(relevant, 1 / np.maximum(count[codes], 1), 0.0)
