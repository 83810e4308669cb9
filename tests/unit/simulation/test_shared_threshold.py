"""One threshold for everybody: the budgets of all together, given to whoever has the best candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from budgets.thresholds import Cells, DayOfCells
from simulation.shared_threshold import SharedController

CELLS = Cells(np.full(10, 7.0), np.zeros(10, np.int32))


def day(observed: bool = True) -> DayOfCells:
    """Ten values per cell; those of a cell are higher than those of the one before."""
    cell = np.repeat(np.arange(10, dtype=np.int32), 10)
    value = np.linspace(0.01, 1.0, 100, dtype=np.float32)
    return DayOfCells(cell, value, np.ones(100, bool), np.zeros(10), observed, np.ones(100, np.float32))


def test_as_many_values_reach_it_as_the_budgets_together_allow_and_they_may_all_be_one_users() -> None:
    controller = SharedController()
    found = controller.thresholds(controller.step(controller.start(CELLS), day(), CELLS))
    goes = day().value >= found[day().cell]
    assert np.bincount(day().cell[goes], minlength=10).tolist() == [0] * 9 + [10]


def test_a_row_that_stands_for_several_counts_as_often_and_one_offered_again_not_at_all() -> None:
    controller = SharedController()
    start = controller.start(CELLS)
    once = controller.thresholds(controller.step(start, day(), CELLS))
    double = controller.thresholds(controller.step(start, replace(day(), weight=np.full(100, 2.0, np.float32)), CELLS))
    again = controller.step(controller.step(start, day(), CELLS), replace(day(), fresh=np.zeros(100, bool)), CELLS)
    assert double[0] > once[0] > controller.thresholds(again)[0]


def test_a_day_that_is_not_observed_changes_nothing() -> None:
    controller = SharedController()
    state = controller.step(controller.start(CELLS), day(), CELLS)
    assert controller.step(state, day(observed=False), CELLS) is state
