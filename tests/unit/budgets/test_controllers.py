"""Three ways to keep a threshold, on days drawn from known values: who keeps the budget, and how soon after it changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from budgets.approach import next_day
from budgets.digest import ScoreDigest
from budgets.keeping import KEPT
from budgets.thresholds import Cells, Controller, DayOfCells, DigestController, PidController, SteeredController, SteeredState

CELLS, OFFERS, LEFT_OVER = 300, 8, 5


def weeks_of(controller: Controller[Any], budgets: list[float], unobserved: set[int] | None = None) -> npt.NDArray[np.float64]:
    """Play days of independent offers under a budget per day; return the mean rolling 7-day sends of each day.

    The first day, and the one after days `unobserved`, still has some of what was new on the days before.
    """
    rng, gone = np.random.default_rng(5), unobserved or set()
    taste = rng.normal(-1.5, 0.7, CELLS)
    group = np.zeros(CELLS, np.int32)
    state, sent = controller.start(Cells(np.full(CELLS, budgets[0]), group)), []
    for number, budget in enumerate(budgets):
        left_over = number == 0 or number - 1 in gone
        cell = np.repeat(np.arange(CELLS, dtype=np.int32), OFFERS + LEFT_OVER * left_over)
        value = expit(taste[cell] + rng.normal(0, 1, len(cell))).astype(np.float32)
        goes = (value >= controller.thresholds(state)[cell]) & (number not in gone)
        sends = np.minimum(np.bincount(cell, goes, CELLS), 3.0)
        sent.append(sends.mean())
        day = DayOfCells(cell, value, np.ones(len(cell), bool), sends, number not in gone, np.ones(len(cell), np.float32))
        state = controller.step(state, day, Cells(np.full(CELLS, budget), group))
    return np.convolve(sent, np.ones(7))[: len(sent)]


def settled(weeks: npt.NDArray[np.float64], since: int, budget: float) -> int:
    off = np.flatnonzero(np.abs(weeks[since:] - budget) > 0.1 * budget)
    return int(off[-1]) + 1 if len(off) else 0


@pytest.mark.parametrize(("before", "after"), [(6.0, 3.0), (3.0, 6.0)])
def test_after_a_change_of_budget_the_steered_threshold_settles_in_half_the_days_of_the_better_of_the_others(
    before: float, after: float
) -> None:
    budgets = [before] * 42 + [after] * 70
    days = {
        type(each).__name__: settled(weeks_of(each, budgets), 42, after)
        for each in (DigestController(), PidController(), SteeredController())
    }
    ours = days.pop("SteeredController")
    assert ours <= min(days.values()) / 2, (ours, days)


def test_after_an_outage_the_steered_threshold_neither_bursts_nor_echoes() -> None:
    weeks = weeks_of(SteeredController(), [6.0] * 84, unobserved={42, 43, 44})
    assert weeks[45:].max() < 6.0 * 1.1
    assert np.abs(weeks[52:] / 6.0 - 1).max() < 0.1


def test_a_pid_swings_to_both_sides_of_a_budget_that_was_cut_to_a_quarter_before_it_rests() -> None:
    off = weeks_of(PidController(), [8.0] * 56 + [2.0] * 70)[56:] / 2.0 - 1
    below = int(np.flatnonzero(off < -0.1)[0])
    assert off[below:].min() < -0.25
    assert off[below:].max() > 0.08
    assert np.abs(off[-28:]).max() < 0.1


def planned(days: list[float], ahead: int, evenness: float = 0.25, crossing: float = 3.0) -> npt.NDArray[np.float64]:
    """Return the sums of seven days of a group that sends what is planned each night, under a budget of 7."""
    days = list(days)
    for _ in range(ahead):
        days.append(next_day(np.array(days[-7:]), 7.0, evenness, crossing))
    return np.convolve(days, np.ones(7), "valid")[1:]


@pytest.mark.parametrize("days", [[0.0] * 7, [2.0] * 7, [1.0] * 4 + [0.0] * 3])
def test_a_sum_of_seven_days_comes_to_its_budget_within_days_and_hardly_goes_beyond_it(days: list[float]) -> None:
    off = planned(days, 40) / 7 - 1
    assert np.abs(off[3:6]).max() < 0.11
    assert np.abs(off[21:]).max() < 0.07
    beyond = -off if sum(days) > 7 else off
    assert beyond[3:].max() < 0.11


def test_an_uneven_week_is_forgotten_instead_of_repeated() -> None:
    days = [0.0] * 6 + [7.0]
    for _ in range(28):
        days.append(next_day(np.array(days[-7:]), 7.0, 0.25, 3.0))
    assert max(days[-7:]) < 1 + 0.2 * 6
    assert planned([0.0] * 6 + [7.0], 28, evenness=1e-9)[-1] == pytest.approx(7.0, abs=1e-3)


def test_days_without_offers_are_made_up_for_within_the_budget_of_seven_days() -> None:
    weeks = weeks_of(SteeredController(), [6.0] * 84, unobserved={42, 43, 44})
    low = 6.0 * 4 / 7
    assert weeks[48] > low + 0.5 * (6.0 - low)
    days = np.diff(weeks)[44:51] + np.append(np.full(4, 6.0 / 7), np.zeros(3))
    assert days.max() < 2.2 * 6.0 / 7


def test_what_is_left_of_days_before_the_first_is_not_taken_for_what_is_new_each_day() -> None:
    def second_day(stock: float) -> float:
        return float(np.diff(weeks_of(SteeredController(stock=stock), [6.0] * 2))[0])

    asked_for = 2 * 6.0 / 7
    assert second_day(1.0) < 0.9 * second_day(1 + LEFT_OVER / OFFERS) < 0.9 * asked_for


def test_a_state_of_an_older_version_is_read() -> None:
    cells = Cells(np.full(2, 5.0), np.zeros(2, np.int32))
    packed = KEPT["steered"].pack(SteeredController().start(cells))
    del packed["gap"]
    state = KEPT["steered"].unpack(packed)
    assert isinstance(state, SteeredState)
    assert not state.gap


def test_a_digest_knows_the_nth_highest_to_a_tenth_of_n_however_it_was_added_up() -> None:
    values = np.random.default_rng(1).random(50_000).astype(np.float32)
    digest = ScoreDigest.merged(ScoreDigest.of(part) for part in np.split(values, 50))
    for wanted in (1, 10, 100, 1000, 10_000):
        assert (values >= digest.nth_highest(wanted)).sum() == pytest.approx(wanted, rel=0.1)


def test_of_few_values_a_digest_forgets_none() -> None:
    values = np.random.default_rng(2).random(40).astype(np.float32)
    found = [ScoreDigest.of(values).nth_highest(wanted) for wanted in range(1, 41)]
    assert found == np.sort(values)[::-1].tolist()
    assert ScoreDigest.of(values).nth_highest(41) == float("-inf")
    assert ScoreDigest.of(values).nth_highest(0) == float("inf")
