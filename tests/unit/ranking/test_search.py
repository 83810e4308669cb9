"""A search tries what it says, takes what ranks later decisions best, prunes what does not, and repeats itself."""

from __future__ import annotations

import optuna
import pandas as pd
import pytest

from ranking.examples import ExampleRule, Rows, draw
from ranking.fitting import OBJECTIVES, Shape
from ranking.held_out import HeldOut
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from ranking.search import OPTIONAL, Attempt, Problem, best_of, search, shape_of
from ranking.training_set import TrainingSet, candidates_only
from ranking.walk import Split, known_at
from tests.unit.ranking.worlds import DAYS, START, world

UNTIL = (START + pd.Timedelta(days=DAYS)).timestamp()
RULE = ExampleRule(rows=3_000)


@pytest.fixture(scope="module")
def problem() -> Problem:
    state = State(Past.of(world(2, users=40, items=200, events=5000), RULE.label))
    rows = Rows.concat(list(draw(state.past, UNTIL, RULE)))
    data = TrainingSet.of(state, rows, *candidates_only(rows), RULE.label)
    middle_at = UNTIL - 25 * DAY_S
    early, middle = known_at(data, middle_at, RULE.label), Split.of(rows.at).middle
    return Problem(data, early, middle, HeldOut.of(state, middle_at, UNTIL, RULE), seed=3)


def quiet(_done: int, _trials: int, _standing: str) -> None:
    """Show nothing."""


def test_what_attempts_are_fitted_to_is_known_before_what_they_are_compared_on(problem: Problem) -> None:
    fitted, compared = problem.data.rows.at[problem.early], problem.held_out.rows.at
    assert fitted.max() + RULE.label.window_s <= compared.min()


def test_the_same_seed_finds_the_same_and_another_seed_something_else(problem: Problem) -> None:
    default = Shape(most_trees=20)
    first, second = (search(problem, default, 4, quiet) for _ in range(2))
    assert first == second
    other = search(Problem(problem.data, problem.early, problem.middle, problem.held_out, seed=4), default, 4, quiet)
    assert [attempt.shape for attempt in other[1:]] != [attempt.shape for attempt in first[1:]]


def test_progress_tells_the_best_so_far_and_ends_when_all_trials_are_over(problem: Problem) -> None:
    seen: list[tuple[int, int, str]] = []
    attempts = search(problem, Shape(most_trees=20), 3, lambda *now: seen.append(now))
    assert [done for done, _, _ in seen] == [0, 1, 2, 3]
    assert f"{best_of(attempts).ndcg:.4f}" in seen[-1][2]
    assert len(attempts) == 4


def test_objectives_can_be_narrowed_to_one(problem: Problem) -> None:
    attempts = search(problem, Shape(most_trees=10), 3, quiet, objectives=("discounted",))
    assert {attempt.shape.objective for attempt in attempts[1:]} == {"discounted"}


def test_trials_reach_every_objective_and_every_optional_group() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    shapes = [shape_of(study.ask()) for _ in range(60)]
    assert {shape.objective for shape in shapes} == set(OBJECTIVES)
    assert {group for shape in shapes for group in shape.without} == set(OPTIONAL)
    assert len({shape.negatives for shape in shapes}) == 3


def test_a_trial_that_ranks_worse_than_the_others_did_is_pruned(problem: Problem) -> None:
    attempts = search(problem, Shape(most_trees=10), 12, quiet)
    pruned = [attempt for attempt in attempts if attempt.pruned]
    assert pruned
    assert not best_of(attempts).pruned


def test_the_first_of_the_best_is_taken_and_pruned_or_unmeasured_ones_never() -> None:
    reached = [0.2, 0.9, 0.5, float("nan"), 0.5]
    attempts = [Attempt(str(place), Shape(), 1, ndcg, pruned=place == 1) for place, ndcg in enumerate(reached)]
    assert best_of(attempts).name == "2"
    assert best_of([Attempt("default", Shape(), 1, float("nan"))]).name == "default"
