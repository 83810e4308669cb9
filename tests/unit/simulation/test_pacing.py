"""When to spend a week's budget, against having known the week: what is taken, and that nobody gets more than the budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from budgets.approach import PERIOD_DAYS
from simulation.pacing import Earned, Offered, PacingWorld, best_of, earned, hindsight, offered, online
from simulation.pacing_bound import calendar, rolling

SMALL = PacingWorld(users=30, weeks=2, calm_weeks=2)


@pytest.fixture(scope="module")
def rows() -> Offered:
    return offered(SMALL)


def test_the_best_are_taken_within_units_and_places_and_no_item_twice() -> None:
    day, item, score = (np.array(column) for column in ([0, 0, 0, 1, 1, 1], [1, 2, 3, 1, 4, 5], [0.9, 0.8, 0.7, 0.95, 0.2, -np.inf]))
    rows = Offered(day, np.zeros(6, np.int64), item, score, score)
    for units, top_n in product(range(4), (1, 2)):
        best = max(
            (
                np.array(chosen)
                for chosen in product([False, True], repeat=6)
                if sum(chosen) <= units
                and all(np.sum(np.array(chosen) & (day == number)) <= top_n for number in (0, 1))
                and len(set(item[list(chosen)])) == sum(chosen)
                and not chosen[5]
            ),
            key=lambda chosen: score[chosen].sum(),
        )
        taken = best_of(rows, score, np.array([units]), top_n)
        assert score[taken].sum() == pytest.approx(score[best].sum())


def test_no_seven_days_hold_more_than_the_budget(rows: Offered) -> None:
    days: list[np.ndarray] = []
    online(rows, SMALL, lambda _: np.full(SMALL.users, -np.inf), lambda _, sent: days.append(sent))
    sends = np.stack(days)
    weeks = np.stack([sends[first : first + PERIOD_DAYS].sum(axis=0) for first in range(len(sends) - PERIOD_DAYS + 1)])
    assert weeks.max() == SMALL.budget


def test_who_knows_the_truth_earns_most_and_the_same_seed_the_same(rows: Offered) -> None:
    best = hindsight(rows, rows.score, SMALL)
    assert earned("fixed", rows, SMALL).value < best < hindsight(rows, rows.chance, SMALL)
    assert earned("paced", rows, SMALL) == earned("paced", offered(SMALL), SMALL)


def test_rolling_weeks_cost_even_those_who_know_how_days_are_distributed(rows: Offered) -> None:
    known = rolling(rows, SMALL).value
    assert known < calendar(rows, SMALL).value < hindsight(rows, rows.score, SMALL)
    assert max(earned(policy, rows, SMALL).value for policy in ("greedy", "fixed", "steered")) < known


def test_the_programs_keep_to_their_budgets(rows: Offered) -> None:
    weeks = SMALL.users * SMALL.budget * SMALL.weeks
    assert 0.5 * weeks < rolling(rows, SMALL).sends <= weeks
    assert 0.5 * weeks < calendar(rows, SMALL).sends <= weeks


def test_a_program_spends_at_once_where_nothing_better_can_come() -> None:
    config = PacingWorld(users=1, weeks=1, calm_weeks=0, budget=1, top_n=1)
    day, score = np.arange(PERIOD_DAYS), np.array([0.5, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1])
    rows = Offered(day, np.zeros(7, np.int64), day, score, score)
    assert calendar(rows, config) == Earned(0.9, 1)
