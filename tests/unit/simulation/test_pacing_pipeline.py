"""Pacing through the real pipeline and the daily job: the ledger's limit holds, and what is kept for the best earns more than haste."""

from __future__ import annotations

from simulation.pacing import PacingWorld
from simulation.pacing_pipeline import played

TINY = PacingWorld(users=25, weeks=1, calm_weeks=1)


def test_what_waits_for_the_best_earns_more_than_haste_within_the_same_budget() -> None:
    greedy, paced = played("greedy", TINY), played("paced", TINY)
    assert 0 < greedy.earned.value < paced.earned.value < paced.hindsight
    assert paced.earned.sends < greedy.earned.sends <= 2 * TINY.users * TINY.budget
