"""Policy value: what the estimators promise, against enumeration of every log a small world can write, and by simulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from ranking.policy_value import ESTIMATORS, Logged, bootstrap, evaluate, influences, reward_model, support, tabular, values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Actions with the chance of a reward, how a logger and a target choose among them, and a reward model that may be wrong."""

    rate: Floats
    logger: Floats
    target: Floats
    model: Floats

    @property
    def value(self) -> float:
        """What the target policy brings per row."""
        return float((self.rate * self.target).sum())

    def log(self, action: npt.NDArray[np.intp], reward: npt.NDArray[np.bool_], unit: npt.NDArray[np.int64] | None = None) -> Logged:
        """Return a log of what was chosen and what came of it."""
        expected_target = np.full(len(action), (self.model * self.target).sum())
        return Logged(reward.astype(float), self.logger[action], self.target[action], self.model[action], expected_target, unit)

    def drawn(self, rows: int, random: np.random.Generator) -> Logged:
        """Return a random log."""
        action = random.choice(len(self.rate), rows, p=self.logger)
        return self.log(action, random.random(rows) < self.rate[action])

    def every_log(self, rows: int) -> Iterator[tuple[float, Logged]]:
        """Return every log of some rows with its probability."""
        for outcome in product(product(range(len(self.rate)), (True, False)), repeat=rows):
            action, reward = np.array([a for a, _ in outcome]), np.array([r for _, r in outcome])
            chance = np.where(reward, self.rate[action], 1 - self.rate[action]) * self.logger[action]
            yield float(chance.prod()), self.log(action, reward)


WORLD = World(
    rate=np.array([0.1, 0.5, 0.3]),
    logger=np.array([0.5, 0.2, 0.3]),
    target=np.array([0.1, 0.7, 0.2]),
    model=np.array([0.3, 0.2, 0.6]),
)


def value_of(logged: Logged, clip: float | None = None) -> dict[str, float]:
    return {name: float(value) for name, value in values(logged.sums(clip).sum(axis=0)).items()}


def mean_over_logs(world: World, rows: int, estimator: str) -> float:
    return sum(chance * value_of(logged)[estimator] for chance, logged in world.every_log(rows))


@pytest.mark.parametrize("estimator", ["ips", "dr"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_ips_and_dr_are_unbiased_over_every_log_even_with_a_wrong_model(estimator: str, rows: int) -> None:
    assert mean_over_logs(WORLD, rows, estimator) == pytest.approx(WORLD.value, abs=1e-12)


def test_the_error_of_self_normalising_falls_with_the_rows() -> None:
    for estimator in ("snips", "sndr"):
        errors = [abs(mean_over_logs(WORLD, rows, estimator) - WORLD.value) for rows in (1, 3, 5)]
        assert errors[0] > errors[1] > errors[2]


def test_dr_with_the_true_model_is_right_though_the_propensities_are_wrong() -> None:
    world = replace(WORLD, model=WORLD.rate)
    wrong = sum(chance * value_of(replace(logged, propensity=np.full(2, 0.4)))["dr"] for chance, logged in world.every_log(2))
    assert wrong == pytest.approx(world.value, abs=1e-12)


def test_the_variance_over_every_log_is_what_the_standard_error_estimates() -> None:
    logs = list(WORLD.every_log(3))
    for estimator in ("ips", "dr"):
        variance = sum(chance * (value_of(logged)[estimator] - WORLD.value) ** 2 for chance, logged in logs)
        estimated = sum(chance * (influences(logged.sums(), value_of(logged))[estimator] ** 2).sum() * 3 / 2 / 9 for chance, logged in logs)
        assert estimated == pytest.approx(variance, rel=1e-9)


def test_a_target_that_is_the_logger_is_worth_the_mean_reward() -> None:
    world = replace(WORLD, target=WORLD.logger)
    logged = world.drawn(500, np.random.default_rng(1))
    found = value_of(logged)
    assert found["ips"] == pytest.approx(logged.reward.mean()) == pytest.approx(found["snips"])
    assert support(logged).effective_rows == pytest.approx(500)
    assert support(logged).mean_weight == pytest.approx(1)


def test_a_constant_reward_is_what_self_normalised_estimates_give_whatever_the_weights() -> None:
    logged = replace(WORLD.drawn(50, np.random.default_rng(2)), reward=np.full(50, 0.7))
    assert value_of(logged)["snips"] == pytest.approx(0.7)
    assert value_of(replace(logged, expected=np.full(50, 0.7), expected_target=np.full(50, 0.7)))["sndr"] == pytest.approx(0.7)


def test_clipping_lowers_weights_only_where_they_are_above_and_says_how_many() -> None:
    logged = WORLD.drawn(1000, np.random.default_rng(3))
    assert logged.weights(2.0).max() == 2.0
    assert (logged.weights(2.0) <= logged.weights()).all()
    assert support(logged, 2.0).clipped == pytest.approx((logged.weights() > 2.0).mean())
    assert support(logged, 2.0).effective_rows > support(logged).effective_rows
    assert support(logged, 2.0).mean_weight == support(logged).mean_weight
    assert value_of(logged, 2.0)["ips"] < value_of(logged)["ips"]
    assert value_of(logged, 1e9) == value_of(logged)


def test_effective_rows_are_those_of_kish() -> None:
    logged = Logged(*(np.array(column) for column in ([1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 1.0], [0.0] * 3, [0.0] * 3)))
    assert support(logged).effective_rows == pytest.approx(4**2 / (1 + 1 + 4))


def test_influences_sum_to_nothing() -> None:
    sums = WORLD.drawn(200, np.random.default_rng(4)).sums()
    pulls = influences(sums, {name: float(value) for name, value in values(sums.sum(axis=0)).items()})
    for estimator in ESTIMATORS:
        assert pulls[estimator].sum() == pytest.approx(0, abs=1e-9)


def test_every_row_twice_as_one_unit_gives_the_errors_of_the_rows_once() -> None:
    once = WORLD.drawn(400, np.random.default_rng(5))
    columns = ("reward", "propensity", "target", "expected", "expected_target")
    twice = replace(once, **{name: np.repeat(getattr(once, name), 2) for name in columns}, unit=np.repeat(np.arange(400), 2))
    alone, paired = evaluate(once, draws=50), evaluate(twice, draws=50)
    for estimator in ESTIMATORS:
        assert paired[estimator].value == pytest.approx(alone[estimator].value)
        assert paired[estimator].standard_error == pytest.approx(alone[estimator].standard_error)
        assert paired[estimator].bootstrap == pytest.approx(alone[estimator].bootstrap)


def test_the_bootstrap_spreads_as_the_standard_error_says() -> None:
    logged = WORLD.drawn(2000, np.random.default_rng(6))
    drawn = bootstrap(logged.sums(), 2000, seed=0)
    for name, estimate in evaluate(logged, draws=10).items():
        assert drawn[name].std() == pytest.approx(estimate.standard_error, rel=0.06)
        assert drawn[name].mean() == pytest.approx(estimate.value, abs=0.1 * estimate.standard_error)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_intervals_cover_the_true_value_as_often_as_they_say(estimator: str) -> None:
    covered = coverage()[estimator]
    assert covered["asymptotic"] == pytest.approx(0.95, abs=0.02)
    assert covered["bootstrap"] == pytest.approx(0.95, abs=0.02)


def coverage(worlds: int = 1500, rows: int = 1000) -> dict[str, dict[str, float]]:
    """Return how often each interval covers, over many seeded logs of a world; reckoned once."""
    if not _COVERAGE:
        random, hits = np.random.default_rng(7), {name: np.zeros(2) for name in ESTIMATORS}
        for number in range(worlds):
            for name, estimate in evaluate(WORLD.drawn(rows, random), draws=400, seed=number).items():
                hits[name] += [low <= WORLD.value <= high for low, high in (estimate.asymptotic, estimate.bootstrap)]
        _COVERAGE.update({name: dict(zip(("asymptotic", "bootstrap"), (hits[name] / worlds).tolist(), strict=True)) for name in hits})
    return _COVERAGE


_COVERAGE: dict[str, dict[str, float]] = {}


def test_no_row_is_judged_by_a_model_that_has_seen_it_or_its_unit() -> None:
    random = np.random.default_rng(8)
    cell, unit, position = random.integers(0, 4, 100), random.integers(0, 30, 100), np.array([0, 0, 1, 1])
    reward = random.random(100)
    model, fold = reward_model(reward, cell, position, unit)
    other, _ = reward_model(np.where(unit == unit[0], 9.0, reward), cell, position, unit)
    own = fold[0]
    assert other[own] == pytest.approx(model[own])
    assert not np.allclose(other[(own + 1) % 5], model[(own + 1) % 5])


def test_a_table_target_is_estimated_with_a_model_learned_from_the_log_without_bias() -> None:
    random, found = np.random.default_rng(9), []
    position, probability = np.array([0, 0, 1, 1]), np.array([0.8, 0.2, 0.3, 0.7])
    rate, chosen = np.array([0.4, 0.1, 0.2, 0.6]), np.array([0.5, 0.5, 0.75, 0.25])
    for _ in range(400):
        place = random.integers(0, 2, 200)
        cell = place * 2 + (random.random(200) < chosen[place * 2 + 1])
        logged = tabular((random.random(200) < rate[cell]).astype(float), chosen[cell], cell, position, probability)
        found.append(value_of(logged)["dr"])
    truth = ((0.8 * 0.4 + 0.2 * 0.1) + (0.3 * 0.2 + 0.7 * 0.6)) / 2
    assert np.mean(found) == pytest.approx(truth, abs=4 * float(np.std(found)) / 20)


def test_an_untrue_propensity_shows_in_the_mean_weight() -> None:
    logged = WORLD.drawn(3000, np.random.default_rng(10))
    assert support(logged).sound
    assert not support(replace(logged, propensity=logged.propensity / 1.95)).sound
