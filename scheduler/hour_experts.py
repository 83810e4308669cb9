"""What several experts say of a user's hours of the week, and how much each of them counts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from scheduler.activity import EPOCH_HOURS, F32, WEEK_HOURS, Activity, Ints
from scheduler.send_time_params import SendTimeParams

NEGLIGIBLE = 1e-12
"""Shares of an event below this are nothing: kept, they would make denormal numbers, on which processors are many times slower."""


LEAST_SLOPE = 0.2
"""Of the curve: a flat one would leave chance to say which of two hours is better."""


@dataclass(frozen=True)
class Smoothing:
    """Matrices (168, 168) that spread an event over the hours beside it and over days of its kind, `exact` over the latter alone; rows sum
    to 1.
    """

    habit: F32
    exact: F32
    session: F32

    @classmethod
    def of(cls, params: SendTimeParams) -> Smoothing:
        """Build the matrices."""
        return cls(_smoother(params.bandwidth_hours, params.same_day), _smoother(0.0, 0.0), _smoother(params.session_bandwidth_hours, 1.0))


def _smoother(bandwidth_hours: float, same_day: float) -> F32:
    apart = np.abs(np.arange(24)[:, None] - np.arange(24))
    hours = np.exp(-0.5 * (np.minimum(apart, 24 - apart) / max(bandwidth_hours, 0.01)) ** 2)
    weekend = np.arange(7) >= 5
    alike = weekend[:, None] == weekend
    days = same_day * np.eye(7) + (1 - same_day) * alike / alike.sum(axis=1, keepdims=True)
    spread = np.kron(days, hours / hours.sum(axis=1, keepdims=True))
    return np.where(spread < NEGLIGIBLE, 0, spread).astype(np.float32)


@dataclass(frozen=True)
class Crowd:
    """What many users have in common: the population's profile (168,) and the groups' profiles (groups, 168) with their shares."""

    population: F32
    profiles: F32
    shares: F32

    @classmethod
    def of(cls, activity: Activity, smoothing: Smoothing, params: SendTimeParams) -> Crowd:
        """Find the population and the groups, a mixture of multinomials over a sample of users with some activity."""
        hour_of_week = (activity.hour + EPOCH_HOURS) % WEEK_HOURS
        total = np.bincount(hour_of_week, activity.weight, WEEK_HOURS).astype(np.float32) @ smoothing.habit
        population = (total + 1e-3 * total.sum() / WEEK_HOURS + 1e-6) / (total.sum() * 1.001 + WEEK_HOURS * 1e-6)
        rng = np.random.default_rng(params.seed)
        counts = (
            activity.take(_sample(np.flatnonzero(activity.rows >= 3), params.sample, rng)).counts(params.middle_half_life_days)
            @ smoothing.habit
        )
        profiles, shares = _grouped(counts, population, params, rng)
        return cls(population, profiles, shares)

    def similar(self, counts: F32, params: SendTimeParams) -> F32:
        """Return what users like these do, (n, 168): the groups' profiles by how likely they made the smoothed `counts`."""
        return np.asarray(_responsibility(counts, self.profiles, self.shares, params) @ self.profiles, np.float32)

    def experts(
        self, activity: Activity, smoothing: Smoothing, params: SendTimeParams, asked: npt.NDArray[np.bool_] | None = None
    ) -> tuple[F32, F32]:
        """Return the log scores of each expert, (experts, users, 168), and the users' evidence, (users,).

        `asked`: bool (experts,), whose scores are wanted, else all; the others' are 0.
        """
        asked = np.ones(len(params.experts), bool) if asked is None else asked
        logs = np.zeros((len(params.experts), len(activity), WEEK_HOURS), np.float32)
        logs[0] = np.log(self.population)
        for place, half_life_days in enumerate(params.half_lives_days, start=2):
            if not asked[place] and half_life_days != params.middle_half_life_days:
                continue
            counts = activity.counts(half_life_days)
            smooth, amount = counts @ smoothing.habit, counts.sum(axis=1, keepdims=True)
            np.log(self._shrunk(smooth, amount, params), out=logs[place])
            if half_life_days == params.middle_half_life_days:
                evidence = amount[:, 0]
                np.log(self.similar(smooth, params), out=logs[1])
                if asked[-2]:
                    np.log(self._shrunk(counts @ smoothing.exact, amount, params), out=logs[-2])
        if not asked[-1]:
            return logs, evidence
        counts = activity.counts(params.session_hours / 24)
        shrunk = counts @ smoothing.session + params.session_shrinkage * self.population
        np.log(shrunk / (counts.sum(axis=1, keepdims=True) + params.session_shrinkage), out=logs[-1])
        return logs, evidence

    def _shrunk(self, smooth: F32, amount: F32, params: SendTimeParams) -> F32:
        """Return smoothed counts of a total `amount` as shares, shrunk to the population."""
        return np.asarray((smooth + params.shrinkage * self.population) / (amount + params.shrinkage), np.float32)


def _grouped(counts: F32, population: F32, params: SendTimeParams, rng: np.random.Generator) -> tuple[F32, F32]:
    """Return profiles and shares of the groups that `counts` (n, 168) fall into, by expectation maximisation from spread-out users."""
    groups = max(1, min(params.groups, len(counts) // 2))
    shares = np.full(groups, 1 / groups, np.float32)
    profiles = _spread_out(counts, population, groups, rng)
    for _ in range(params.group_rounds if groups > 1 else 1):
        weight = _responsibility(counts, profiles, shares, params)
        shares = (weight.sum(axis=0) + 1) / (len(counts) + groups)
        profiles = weight.T @ counts + params.group_evidence * population
        profiles = profiles / profiles.sum(axis=1, keepdims=True)
    return profiles.astype(np.float32), shares.astype(np.float32)


def _spread_out(counts: F32, population: F32, groups: int, rng: np.random.Generator) -> F32:
    """Return the shrunk profiles of users far from one another in Hellinger distance (k-means++, Arthur & Vassilvitskii 2007)."""
    if len(counts) == 0:
        return np.tile(population, (groups, 1))
    roots = np.sqrt((counts + 5 * population) / (counts.sum(axis=1, keepdims=True) + 5))
    evidence = np.log1p(counts.sum(axis=1, dtype=np.float64))
    chosen = [int(rng.integers(len(roots)))]
    nearest = np.full(len(roots), np.inf)
    while len(chosen) < groups:
        nearest = np.minimum(nearest, ((roots - roots[chosen[-1]]) ** 2).sum(axis=1))
        chance = nearest * evidence + 1e-12
        chosen.append(int(rng.choice(len(roots), p=chance / chance.sum())))
    squares = roots[chosen] ** 2
    profiles: F32 = squares / squares.sum(axis=1, keepdims=True)
    return profiles


def _responsibility(counts: F32, profiles: F32, shares: F32, params: SendTimeParams) -> F32:
    """Return the posterior of each group, (n, groups)."""
    log_likelihood = params.group_temper * (counts @ np.log(profiles).T) + np.log(shares)
    return _softmax(log_likelihood)


def _softmax(logits: F32) -> F32:
    chance: F32 = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    return chance


def pooled(logs: F32, weights: npt.NDArray[np.floating]) -> F32:
    """Return the logarithmic opinion pool of experts, (users, 168), from their log scores (experts, users, 168)."""
    return _softmax(np.tensordot(weights.astype(np.float32), logs, axes=1))


@dataclass(frozen=True)
class Pool:
    """What was learned of the experts: `weights` (experts,), and a curve that turns what they come to into what comes to pass.

    The curve bends the log scores at `knots`, ascending, with `slopes` (knots + 1,), all of them rising: the order of a user's hours stays.
    """

    weights: npt.NDArray[np.float64]
    knots: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float64]

    def scores(self, logs: F32) -> F32:
        """Return the scores of users, (users, 168), summing to 1, from the log scores of experts (experts, users, 168)."""
        return pooled(_bent(np.log(pooled(logs, self.weights)), self.knots), self.slopes)


def _bent(logs: F32, knots: npt.NDArray[np.float32]) -> F32:
    """Return log scores cut at knots, (knots + 1, users, 168); but for a constant they sum to what they were."""
    edges = [-np.inf, *knots.tolist(), np.inf]
    return np.stack([np.clip(logs, *edge) for edge in pairwise(edges)]).astype(np.float32)


def learn_pool(user: Ints, hour: Ints, smoothing: Smoothing, params: SendTimeParams) -> Pool:
    """Return the weights and the curve that best predict a sample of users' latest events from their earlier ones.

    `user`, `hour`: of each event, sorted by user and hour; a user's history is cut between two events, be it within a session.
    Both maximise the held-out log likelihood, less a quadratic pull to `params.weights` and to a straight curve; the problems are convex.
    """
    prior, straight = np.array(params.weights), np.ones(len(params.curve_at) + 1)
    events = np.bincount(user)
    rng = np.random.default_rng(params.seed)
    sample = _sample(np.flatnonzero(events >= params.learn_from), params.sample, rng)
    if len(sample) == 0:
        return Pool(prior, np.zeros(0, np.float32), np.ones(1))
    place = np.arange(len(user)) - (np.cumsum(events) - events)[user]
    late = place >= np.floor((1 - params.held_out) * events)[user]
    code = np.full(len(events), -1)
    code[sample] = np.arange(len(sample))
    early, target = (
        Activity.of(code[user[rows]], hour[rows], len(sample), params) for rows in ((code[user] >= 0) & ~late, (code[user] >= 0) & late)
    )
    logs, _ = Crowd.of(early, smoothing, params).experts(early, smoothing, params)
    weights = _most_likely(logs, target.counts(), prior, params)
    weights[0] += max(0.0, 1.0 - weights.sum())  # what no expert earned is the population's: better than a uniform week
    promised = pooled(logs, weights)
    knots = _knots(promised, params.curve_at)
    return Pool(weights, knots, _most_likely(_bent(np.log(promised), knots), target.counts(), straight, params, LEAST_SLOPE))


def _knots(promised: F32, shares: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Return the log scores below which lie these shares of all that is promised."""
    ascending = np.sort(promised.ravel())
    within = np.cumsum(ascending, dtype=np.float64) / ascending.sum(dtype=np.float64)
    return np.log(ascending[np.searchsorted(within, shares)]).astype(np.float32)


def _most_likely(
    logs: F32, target: F32, prior: npt.NDArray[np.float64], params: SendTimeParams, least: float = 0.0
) -> npt.NDArray[np.float64]:
    amount = target.sum(axis=1, keepdims=True)
    target = target * np.minimum(1, params.most_per_user / np.maximum(amount, 1e-9))
    total, amount = float(target.sum()), target.sum(axis=1, keepdims=True)
    strength = params.weight_evidence

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        chance = pooled(logs, weights)
        gap = weights - prior
        value = -float((target * np.log(np.maximum(chance, 1e-30))).sum()) / total + strength / total * float(gap @ gap)
        slope = np.tensordot(logs, amount * chance - target, axes=2) / total + 2 * strength / total * gap
        return value, slope.astype(np.float64)

    found = scipy.optimize.minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[(least, None)] * len(prior), options={"maxiter": 60})
    return np.asarray(found.x, np.float64)


def _sample(rows: npt.NDArray[np.intp], most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows
