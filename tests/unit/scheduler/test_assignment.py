"""Plans for users' windows: every limit holds, and the worth is close to that of the exact optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.assignment import NOT_PLANNED, AssignConfig, Choices, assign, worth
from tidings.bench_choices import choices_of, exact
from tidings.bench_hunt import hunt


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_no_plan_breaks_a_limit(seed: int, items: int, windows: int, channels: int) -> None:
    choices = choices_of(seed, 8, items, windows, channels)
    plan = assign(choices)
    for user in range(len(choices)):
        item = np.flatnonzero(plan[user] != NOT_PLANNED)
        window, channel = plan[user, item] // channels, plan[user, item] % channels
        assert (choices.value[user, item, window, channel] > 0).all()
        assert (np.bincount(channel, minlength=channels) <= choices.budget[user]).all()
        assert (np.bincount(window, minlength=windows) <= choices.window_cap).all()
        assert (np.bincount(choices.day[user, window], minlength=windows)[choices.day[user]] <= choices.day_cap[user]).all()
        used = np.unique(window)
        assert not (choices.near[user][np.ix_(used, used)] & ~np.eye(len(used), dtype=bool)).any()


@pytest.mark.parametrize(("items", "windows", "channels"), [(6, 3, 1), (10, 7, 2), (12, 5, 3)])
def test_plans_are_worth_within_a_hundredth_of_the_optimum_and_never_more(items: int, windows: int, channels: int) -> None:
    choices = choices_of(3, 60, items, windows, channels)
    best, found = np.array([exact(choices, user) for user in range(len(choices))]), worth(choices, assign(choices))
    assert (found <= best * (1 + 1e-4) + 1e-6).all()
    assert (found >= 0.99 * best - 1e-6).all()


def test_improving_a_plan_never_makes_it_worse() -> None:
    choices = choices_of(5, 200, 10, 7, 2)
    greedy, improved = (worth(choices, assign(choices, AssignConfig(rounds, rounds, nodes=0))) for rounds in (0, 120))
    assert (improved >= greedy - 1e-6).all()
    assert improved.sum() > greedy.sum()


@pytest.mark.parametrize(("items", "windows", "channels"), [(6, 3, 1), (10, 7, 2)])
def test_a_plan_that_is_not_improved_further_is_the_optimum_or_close_enough_to_its_bound(items: int, windows: int, channels: int) -> None:
    """With a gap of 0 and nothing improved, only the bound and the search are left: a bound that is too low would lose worth here."""
    choices = choices_of(11, 60, items, windows, channels)
    best = np.array([exact(choices, user) for user in range(len(choices))])
    found = worth(choices, assign(choices, AssignConfig(rounds=0, most_rounds=0, gap=0.0)))
    assert (found >= (1 - 1e-4) * best - 1e-6).all()


def test_a_search_for_the_worst_users_finds_none_that_is_a_hundredth_short() -> None:
    assert hunt(4, seed=9)["worst"] >= 0.99


def test_a_users_plan_does_not_depend_on_who_is_planned_with_them() -> None:
    choices = choices_of(7, 30, 8, 5, 2)
    fields = {name: getattr(choices, name)[10:20] for name in ("value", "budget", "day", "day_cap", "near")}
    np.testing.assert_array_equal(assign(replace(choices, **fields)), assign(choices)[10:20])


def test_what_cannot_wait_goes_first_though_it_is_worth_less() -> None:
    """Two items, a place in each of two windows: the better item keeps its worth, the other one expires."""
    value = np.array([[[[1.0], [0.9]], [[0.8], [-1.0]]]], np.float32)
    choices = Choices(value, np.array([[5]]), np.array([[0, 1]]), np.array([[9, 9]]), 1, np.zeros((1, 2, 2), bool))
    assert assign(choices).tolist() == [[1, 0]]


def test_what_was_promised_gives_way_only_to_what_is_clearly_better() -> None:
    def planned(newcomer: float) -> list[int]:
        value = np.array([[[[1.0]], [[newcomer]]]], np.float32)
        choices = Choices(value, np.array([[1]]), np.array([[0]]), np.array([[9]]), 9, np.zeros((1, 1, 1), bool))
        return [int(row) for row in assign(choices, promised=np.array([[True, False]]))[0]]

    assert planned(1.04) == [0, NOT_PLANNED]
    assert planned(1.2) == [NOT_PLANNED, 0]


def test_nobody_and_nothing_to_plan_give_empty_plans() -> None:
    for users, items in ((0, 3), (3, 0)):
        value, day, near = np.empty((users, items, 2, 1), np.float32), np.zeros((users, 2), int), np.zeros((users, 2, 2), bool)
        assert assign(Choices(value, np.ones((users, 1), int), day, day + 1, 1, near)).shape == (users, items)
