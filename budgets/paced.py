"""A threshold per user that spends what is left of the week on the best that is still to come: the opportunity cost of a unit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from budgets.approach import PERIOD_DAYS
from budgets.thresholds import BINS, LEAST, Cells, DayOfCells, Floats, Sent, bin_of, level_of, where_known

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PacedState:
    """`own` (cells, BINS) and `of_group` (groups, BINS): faded counts of new values, of `days` faded days."""

    sent: Sent
    own: Floats
    of_group: Floats
    days: float
    threshold: F32

    def taken(self, place: npt.NDArray[np.intp]) -> PacedState:
        """Return the state of the cells at some places, (n,)."""
        return replace(self, sent=Sent(self.sent.days[place]), own=self.own[place], threshold=self.threshold[place])


@dataclass(frozen=True)
class PacedController:
    """Each night, per cell: which threshold leaves as many new items above it tomorrow as are to be spent then.

    That is between a seventh of the budget and what the ledger will have free, their geometric mean with weight `eager` on the latter:
    with 1 whatever is free goes at once, to less than the best; with 0 a day is worth as much whether the week was spent or saved. A spent
    week raises the threshold, a saved one lowers it. A cell's own
    counts, halved every `half_life_days`, are mixed with its group's, worth `group_weight` days. Aim it at the ledger's own limit:
    there is no soft budget below it. On a day that is not observed the threshold stays.
    """

    start_at: float = 0.2
    half_life_days: float = 14.0
    group_weight: float = 7.0
    eager: float = 0.4

    def start(self, cells: Cells) -> PacedState:
        """See budgets.thresholds.Controller."""
        n, groups = len(cells), int(cells.group.max(initial=-1)) + 1
        nothing = Sent.steady(np.zeros(n))
        return PacedState(nothing, np.zeros((n, BINS)), np.zeros((groups, BINS)), 0.0, np.full(n, self.start_at, np.float32))

    def step(self, state: PacedState, day: DayOfCells, cells: Cells) -> PacedState:
        """See budgets.thresholds.Controller."""
        sent = state.sent.then(day.sends)
        if not day.observed:
            return PacedState(sent, state.own, state.of_group, state.days, state.threshold)
        fade, n, groups = 0.5 ** (1 / self.half_life_days), len(cells), len(state.of_group)
        cell, value, weight = day.cell[day.fresh].astype(np.int64), day.value[day.fresh], day.weight[day.fresh]
        bins = bin_of(scipy.special.logit(np.clip(value, LEAST, 1 - LEAST)))
        own = state.own * fade + np.bincount(cell * BINS + bins, weight, n * BINS).reshape(n, BINS)
        of_group = state.of_group * fade + np.bincount(cells.group[cell] * BINS + bins, weight, groups * BINS).reshape(groups, BINS)
        days = state.days * fade + 1
        size = np.maximum(np.bincount(cells.group, minlength=groups), 1)
        typical = (of_group / days / size[:, None])[cells.group]
        per_day = (own + self.group_weight * typical) / (days + self.group_weight)
        free = np.maximum(cells.budget - sent.days[:, 1:].sum(axis=1), 0.0)
        wanted = (cells.budget / PERIOD_DAYS) ** (1 - self.eager) * free**self.eager
        threshold = scipy.special.expit(level_of(per_day, wanted)).astype(np.float32)
        return PacedState(sent, own, of_group, days, threshold)

    def thresholds(self, state: PacedState) -> F32:
        """See budgets.thresholds.Controller."""
        return state.threshold

    def carried(self, state: PacedState, place: npt.NDArray[np.intp], cells: Cells) -> PacedState:
        """See budgets.keeping.Keeping."""
        known, begun = place >= 0, self.start(cells)
        size = np.maximum(np.bincount(cells.group, minlength=len(state.of_group)), 1)
        begun = replace(begun, own=(state.of_group / size[:, None])[cells.group])
        old = state.taken(np.where(known, place, 0)) if len(state.threshold) else begun
        sent = Sent(where_known(known, old.sent.days, begun.sent.days))
        threshold = where_known(known, old.threshold, begun.threshold)
        return replace(state, sent=sent, own=where_known(known, old.own, begun.own), threshold=threshold)

    def usual(self, state: PacedState) -> float:
        """See budgets.keeping.Keeping."""
        return float(state.of_group.sum() / max(state.days, 1e-9))
