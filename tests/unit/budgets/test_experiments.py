"""Arms and holdouts by a salted hash: stable, in proportion, independent of one another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from budgets.experiments import Experiment, Holdout, draws
from lake.ids import hash64

USERS = [f"user-{number}" for number in range(60_000)]
KEYS = hash64(USERS)


@pytest.mark.parametrize("salt", ["a", "b", "experiment\x1fonboarding", "x" * 300])
def test_draws_are_spread_evenly(salt: str) -> None:
    drawn = draws(KEYS, salt)
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert stats.chisquare(np.bincount((drawn * 100).astype(int), minlength=100)).pvalue > 1e-3


def test_arms_have_the_shares_of_their_weights() -> None:
    experiment = Experiment("dial", ("old", "new", "newer"), (70.0, 20.0, 10.0))
    counts = np.bincount(experiment.assign(USERS), minlength=3)
    assert stats.chisquare(counts, experiment.shares * len(USERS)).pvalue > 1e-3
    assert (np.bincount(Experiment("even", ("a", "b")).assign(USERS)) / len(USERS)) == pytest.approx([0.5, 0.5], abs=0.01)


def test_experiments_and_the_holdout_are_independent_of_one_another() -> None:
    columns = [Experiment(f"e{number}").assign(USERS) for number in range(12)] + [Holdout(0.3).holds(USERS).astype(np.uint8)]
    tables = [np.histogram2d(one, other, bins=2)[0] for place, one in enumerate(columns) for other in columns[:place]]
    p_values = np.array([stats.chi2_contingency(table, correction=False).pvalue for table in tables])
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert p_values.min() > 1e-3 / len(p_values)


def test_ids_that_differ_by_one_digit_fall_independently_of_it() -> None:
    arm = Experiment("parity").assign(USERS)
    number = np.arange(len(USERS))
    for column in (number % 2, number % 10, number // 30_000):
        table = np.histogram2d(arm, column, bins=(2, int(column.max()) + 1))[0]
        assert stats.chi2_contingency(table, correction=False).pvalue > 1e-3


def test_arms_are_those_that_were_recorded_once_and_the_same_in_any_batch() -> None:
    """A release that changed them would move users between the arms of running experiments."""
    assert Experiment("dial").assign(USERS[:16]).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0]
    assert Holdout(0.2).holds(USERS[:16]).astype(int).tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0]
    whole = Experiment("dial").assign(USERS)
    assert (Experiment("dial").assign(USERS[500:400:-1]) == whole[500:400:-1]).all()


def test_another_salt_draws_anew_and_a_renamed_experiment_with_its_old_salt_does_not() -> None:
    first = Experiment("dial").assign(USERS)
    assert (Experiment("dial", salt="again").assign(USERS) == first).mean() == pytest.approx(0.5, abs=0.01)
    assert (Experiment("renamed", salt="dial").assign(USERS) == first).all()


@given(shares=st.lists(st.floats(0.001, 0.5), min_size=2, max_size=6).map(sorted))
def test_a_larger_holdout_holds_everybody_that_a_smaller_one_does(shares: list[float]) -> None:
    held = [Holdout(share).of_keys(KEYS[:2000]) for share in shares]
    for less, more in pairwise(held):
        assert not (less & ~more).any()


@given(share=st.floats(0.05, 0.5))
def test_a_growing_treatment_moves_nobody_out_of_it(share: float) -> None:
    small = Experiment("ramp", ("control", "treatment"), (1 - share / 2, share / 2)).of_keys(KEYS[:2000])
    large = Experiment("ramp", ("control", "treatment"), (1 - share, share)).of_keys(KEYS[:2000])
    assert (large >= small).all()


def test_nobody_is_held_out_without_a_share() -> None:
    assert not Holdout().holds(USERS).any()
    assert Holdout(0.05).holds(USERS).mean() == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Experiment(""), "needs a name"),
        (lambda: Experiment("e", ("only",)), "2 to 255 arms"),
        (lambda: Experiment("e", ("a", "a")), "different names"),
        (lambda: Experiment("e", ("a", "b"), (1.0,)), "each arm a weight"),
        (lambda: Experiment("e", ("a", "b"), (1.0, 0.0)), "above 0"),
        (lambda: Experiment("e", ("a", "b"), (1.0, float("inf"))), "above 0"),
        (lambda: Holdout(0.6), "between 0 and 0.5"),
        (lambda: Holdout(-0.1), "between 0 and 0.5"),
    ],
)
def test_what_is_no_experiment_is_refused(wrong: object, told: str) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=told):
        wrong()
