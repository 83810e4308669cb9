"""Differences between arms: false alarms as often as promised, real ones found, and a lopsided split noticed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from budgets.experiments import draws
from lake.ids import combine, hash64
from simulation.difference import SURE, Difference, Moments, columns, difference, sample_ratio

Floats = npt.NDArray[np.float64]
TESTS = 10_000


def people(n: int, seed: int) -> tuple[Floats, Floats]:
    """Engaged sends and sends of users who differ widely in both, as real ones do."""
    random = np.random.default_rng(seed)
    sends = random.poisson(random.gamma(1.2, 4.0, n)).astype(np.float64)
    return random.binomial(sends.astype(int), random.beta(0.6, 4.0, n)).astype(np.float64), sends


def split(above: Floats, below: Floats, tests: int, treatment: Floats | None = None) -> Difference:
    """Split users by the hash that splits live ones, once per salt, and test each split; `treatment`: what treated ones do instead."""
    keys = hash64([f"u{number}" for number in range(len(above))])
    salts = hash64([f"experiment\x1f{number}" for number in range(tests)])
    found = []
    old = np.stack(columns(above, below))
    new = old if treatment is None else np.stack(columns(treatment, below))
    for part in np.array_split(salts, max(tests // 1000, 1)):
        treated = (combine(part[:, None], keys[None, :]) >> np.uint64(63)).astype(np.float32)
        found.append(((1 - treated) @ old.T.astype(np.float32), treated @ new.T.astype(np.float32)))
    sums = [np.concatenate(arm).astype(np.float64).T for arm in zip(*found, strict=True)]
    return difference(Moments(*sums[0]), Moments(*sums[1]))


def test_the_fast_split_of_these_tests_is_the_one_that_serves() -> None:
    keys = hash64([f"u{number}" for number in range(500)])
    for salt in ("experiment\x1f0", "experiment\x1f7"):
        treated = combine(hash64([salt])[:, None], keys[None, :])[0] >> np.uint64(63)
        assert (treated == (draws(keys, salt) >= 0.5)).all()


@pytest.mark.parametrize("metric", ["per send", "per user"])
def test_ten_thousand_tests_of_nothing_raise_an_alarm_five_times_in_a_hundred(metric: str) -> None:
    above, sends = people(1500, seed=1)
    found = split(above, sends if metric == "per send" else np.ones(len(sends)), TESTS)
    assert (found.p_value < 0.05).mean() == pytest.approx(0.05, abs=0.006)
    assert ((found.low > 0) | (found.high < 0)).mean() == pytest.approx(0.05, abs=0.006)
    assert stats.kstest(found.p_value, "uniform").pvalue > 1e-3


def test_taking_sends_for_independent_would_raise_false_alarms_which_this_does_not() -> None:
    above, sends = people(1500, seed=1)
    found = split(above, sends, 2000)
    as_if = np.sqrt(found.control * (1 - found.control) * 4 / sends.sum())
    assert (np.abs(found.difference / as_if) > 1.96).mean() > 0.15 > (found.p_value < 0.05).mean()


def test_intervals_of_difference_and_lift_hold_the_truth_nineteen_times_in_twenty() -> None:
    above, sends = people(3000, seed=2)
    extra = np.random.default_rng(3).binomial((sends - above).astype(int), 0.03)
    found = split(above, sends, 4000, treatment=above + extra)
    truth = extra.sum() / sends.sum()
    assert ((found.low <= truth) & (truth <= found.high)).mean() == pytest.approx(0.95, abs=0.015)
    lift = extra.sum() / above.sum()
    assert ((found.lift_low <= lift) & (lift <= found.lift_high)).mean() == pytest.approx(0.95, abs=0.015)
    assert (found.p_value < 0.05).mean() > 0.3


def test_a_mean_per_user_is_welchs_test() -> None:
    random = np.random.default_rng(4)
    value, arm = random.gamma(2, 1, 400), random.integers(0, 2, 400)
    moments = Moments.of(arm, value, np.ones(400), 2)
    found = difference(moments.take(0), moments.take(1))
    theirs = stats.ttest_ind(value[arm == 1], value[arm == 0], equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert [float(each) for each in (found.p_value, found.low, found.high)] == pytest.approx([theirs.pvalue, interval.low, interval.high])


def test_the_delta_method_agrees_with_the_bootstrap() -> None:
    above, sends = people(2000, seed=5)
    moments = Moments.of(np.zeros(2000, int), above, sends, 1).take(0)
    random = np.random.default_rng(6)
    drawn = random.multinomial(2000, np.full(2000, 1 / 2000), 3000)
    assert float(np.sqrt(moments.variance)) == pytest.approx(float(((drawn @ above) / (drawn @ sends)).std()), rel=0.05)


def test_arms_without_anything_to_compare_give_no_number_and_no_warning() -> None:
    moments = Moments.of(np.array([0, 0, 1]), [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], 3)
    found = difference(moments.take(0), moments.take(1))
    assert np.isnan([found.control, found.p_value, found.low, found.lift]).all()
    assert np.isnan(difference(moments.take(2), moments.take(2)).difference)


def test_an_even_split_is_rarely_called_lopsided() -> None:
    counts = np.random.default_rng(7).multinomial(200_000, [0.5, 0.5], TESTS)
    p_values = sample_ratio(counts, [0.5, 0.5])
    assert (p_values < 0.05).mean() == pytest.approx(0.05, abs=0.006)
    assert (p_values < SURE).mean() < 0.003


@pytest.mark.parametrize(
    ("leak", "users"), [("one in a hundred treated users is shown the control", 400_000), ("one in a hundred is lost", 1_500_000)]
)
def test_a_leak_of_one_percent_is_caught(leak: str, users: int) -> None:
    random, half = np.random.default_rng(8), 0.5
    treated = random.binomial(users, half, 400)
    gone = random.binomial(treated, 0.01)
    control = users - treated + (gone if "shown" in leak else 0)
    assert (sample_ratio(np.stack([control, treated - gone], axis=1), [half, half]) < SURE).mean() > 0.9


def test_without_users_nothing_is_said_of_their_split() -> None:
    assert np.isnan(sample_ratio([0, 0], [0.5, 0.5]))
