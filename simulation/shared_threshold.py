"""One threshold for everybody, as a deployment has it whose users have none of their own: last week's N-th highest value of all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from budgets.approach import PERIOD_DAYS
from budgets.thresholds import Cells, DayOfCells, threshold

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SharedState:
    """`week`: new values and their weights of the last observed days, oldest first. `threshold`: float32 (cells,), the same for all."""

    week: tuple[tuple[F32, F32], ...]
    threshold: F32


@dataclass(frozen=True)
class SharedController:
    """Once a day, over everybody: as many of last week's new values reach the threshold as the budgets of all together allow sends.

    Sends go to whoever has the best candidates, however many each then gets up to the ledger's limit. See scheduler.thresholds.learn.
    """

    def start(self, cells: Cells) -> SharedState:
        """See budgets.thresholds.Controller."""
        return SharedState((), np.full(len(cells), -np.inf, np.float32))

    def step(self, state: SharedState, day: DayOfCells, cells: Cells) -> SharedState:
        """See budgets.thresholds.Controller."""
        if not day.observed:
            return state
        week = (*state.week, (day.value[day.fresh], day.weight[day.fresh]))[-PERIOD_DAYS:]
        values, weights = (np.concatenate(column) for column in zip(*week, strict=True))
        least = threshold(values, weights, cells.budget.sum() * len(week) / PERIOD_DAYS)
        return SharedState(week, np.full(len(cells), least, np.float32))

    def thresholds(self, state: SharedState) -> F32:
        """See budgets.thresholds.Controller."""
        return state.threshold
