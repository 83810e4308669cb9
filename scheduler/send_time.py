"""When each user is most likely to engage: a score for every local hour of the week, pooled from their own history and others'.

Several experts estimate a user's hours of the week: the population, the group of users with similar hours, and the user's own
history forgotten at several speeds, each shrunk to the population as evidence thins (Dirichlet smoothing). A logarithmic opinion
pool (Genest & Zidek 1986) joins them. How much each expert counts is learned on the data itself: the last part of users' histories
is held out, predicted from the earlier part, and the weights that predict it best are kept. So where personal history misleads it
loses its weight, and the pool falls back to the population.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

from lake.ids import hash64
from lake.profiles import MAX_WINDOWS, NO_OFFSET
from scheduler.windows import LocalTimes

WEEK_HOURS = 168
EPOCH_HOURS = 72
"""1970-01-01 was a Thursday; weeks count from Monday."""
LEVELS = ("population", "similar_users", "own_history")
"""What a user's score rests on mostly."""

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SendTimeParams:
    """How history becomes scores. The defaults were chosen on earlier parts of two real histories (commits and article reading).

    `half_lives_days`: how fast each own-history expert forgets, counted back from the user's latest event.
    `repeat_power`: n events in one hour of one date count n ** repeat_power, for a burst is little more evidence than one.
    `bandwidth_hours`: spread of an event over the hours beside it. `same_day`: share of an event that stays with its day of
    the week; the rest goes to its kind of day, Monday to Friday or the weekend. `shrinkage`: evidence, in events, at which a
    user's own history counts as much as the population. `channel_shrinkage`: the same for one channel against all of them.
    `groups`: kinds of users looked for, by expectation maximisation over `sample` users in `group_rounds` rounds, whose
    likelihoods are raised to `group_temper`, for hours come in runs and are less evidence than independent draws.
    `group_evidence`: events' worth of population in each group's profile. `held_out`: share of a user's latest hours the
    weights are learned on, of users with at least `learn_from` hours; a user counts at most `most_per_user` hours there.
    `weights`: of population, group and each own-history expert before anything is learned, `weight_evidence`: how many held
    out hours they are worth. `ignored_kinds`: events that do not show that the user wanted to hear something.
    """

    half_lives_days: tuple[float, ...] = (4.0, 20.0, 100.0, 500.0)
    repeat_power: float = 0.3
    bandwidth_hours: float = 0.6
    same_day: float = 0.4
    shrinkage: float = 5.0
    channel_shrinkage: float = 20.0
    groups: int = 8
    group_rounds: int = 30
    group_temper: float = 0.7
    group_evidence: float = 50.0
    sample: int = 20_000
    held_out: float = 0.25
    learn_from: int = 8
    most_per_user: float = 30.0
    weights: tuple[float, ...] = (0.1, 0.4, 0.2, 0.2, 0.2, 0.1)
    weight_evidence: float = 10.0
    ignored_kinds: tuple[str, ...] = ("unsubscribe", "mute", "dismiss", "complaint", "bounce", "delivered")
    chunk: int = 32_768
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.weights) != 2 + len(self.half_lives_days):
            raise ValueError(f"weights must be 2 + {len(self.half_lives_days)} numbers, one per expert, not {len(self.weights)}")

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the experts, in the order of their weights."""
        return ("population", "similar_users", *(f"own_{days:g}_days" for days in self.half_lives_days))


@dataclass(frozen=True)
class SendTimes:
    """Scores of the local hours of the week (0 = Monday 00h), summing to 1 over the week.

    `users`: str (n,). `scores`: float32 (n, 168). `population`: float32 (168,), for anyone else. `evidence`: float32 (n,),
    hours of activity, recent ones counting more. `level`: uint8 (n,) into LEVELS. `weights`: what each expert counted.
    `channels`: the same for single channels, of the users who were active there.
    """

    users: npt.NDArray[np.object_]
    scores: F32
    population: F32
    evidence: F32
    level: npt.NDArray[np.uint8]
    weights: dict[str, float]
    channels: dict[str, SendTimes] = field(default_factory=dict)

    @cached_property
    def _index(self) -> pd.Index[str]:
        return pd.Index(self.users)

    def for_users(self, user_ids: Sequence[str], channel: str | None = None) -> F32:
        """Return the scores of users, (n, 168): on the channel, else on any, else those of the population."""
        scores = np.tile(self.population, (len(user_ids), 1))
        for times in (self, self.channels.get(channel) if channel is not None else None):
            if times is not None:
                row = times._index.get_indexer(pd.Index(user_ids, dtype=object))
                scores[row >= 0] = times.scores[row[row >= 0]]
        return scores

    def windows_for(self, user_ids: Sequence[str], weekly: int = 7, channel: str | None = None) -> npt.NDArray[np.uint16]:
        """Return `best_windows` of users; each user keeps to one quarter of the hour, so that an hour's load spreads over its slots."""
        return best_windows(self.for_users(user_ids, channel), weekly, (hash64(list(user_ids)) % np.uint64(4)).astype(np.uint16))


def fit(events: pd.DataFrame, users: pd.DataFrame, params: SendTimeParams | None = None) -> SendTimes:
    """Return the send times of every user with events.

    `events`, `users`: interchange tables. An event's local time is by its own offset, else the user's zone, else the user's
    offset, else the commonest zone of the events. Time and memory grow with users x 168; a million users take about a minute.
    """
    params = params or SendTimeParams()
    events = events[~events["kind"].isin(params.ignored_kinds)]
    hour = local_hours(events, users)
    codes, ids = pd.factorize(events["user_id"])
    activity = Activity.of(codes.astype(np.int64), hour, len(ids), params)
    smoothing = smoother(params)
    weights = learn_weights(activity, smoothing, params)
    crowd = Crowd.of(activity, smoothing, params)
    scores, evidence = np.empty((len(ids), WEEK_HOURS), np.float32), np.empty(len(ids), np.float32)
    for part in _chunks(len(ids), params.chunk):
        experts, evidence[part] = crowd.experts(activity.slice(part), smoothing, params)
        scores[part] = pooled(experts, weights)
    names = np.asarray(ids, dtype=object)
    level = np.where(evidence >= params.shrinkage, 2, 1).astype(np.uint8)
    whole = SendTimes(names, scores, crowd.population, evidence, level, dict(zip(params.experts, weights.tolist(), strict=True)))
    return _with_channels(whole, events, codes.astype(np.int64), hour, smoothing, params)


def local_hours(events: pd.DataFrame, users: pd.DataFrame) -> Ints:
    """Return each event's local hours since 1970-01-01 00h local, int64 (n,)."""
    at = events["at"].dt.as_unit("s").astype("int64").to_numpy()
    known = users.set_index("user_id")
    row = known.index.get_indexer(pd.Index(events["user_id"]))
    zone = _of_users(known, "timezone", row, "").astype(object)
    offset = _of_users(known, "utc_offset_minutes", row, np.nan).astype(np.float64)
    has_zone = zone != ""
    commonest = pd.Series(zone[has_zone]).mode()
    zone[~has_zone & np.isnan(offset)] = commonest.iat[0] if len(commonest) else ""
    offset_s = LocalTimes.of(zone, np.nan_to_num(offset, nan=NO_OFFSET)).offset_at(at)
    if "utc_offset_minutes" in events:
        own = events["utc_offset_minutes"].to_numpy(np.float64, na_value=np.nan)
        offset_s = np.where(np.isnan(own), offset_s, np.nan_to_num(own) * 60).astype(np.int64)
    hours: Ints = (at + offset_s) // 3600
    return hours


def _of_users(known: pd.DataFrame, column: str, row: npt.NDArray[np.intp], missing: object) -> npt.NDArray[np.object_]:
    """Return a column of the users at `row` (-1: unknown user), `missing` where there is nothing."""
    if column not in known:
        return np.full(len(row), missing, object)
    values = np.append(known[column].astype(object).where(known[column].notna(), missing).to_numpy(object), missing)
    return values[row]


@dataclass(frozen=True)
class Activity:
    """Hours in which users were active, sorted by user and time, one row for each hour of a date.

    `first`: int64 (users + 1,), where each user's rows begin. `hour`: local hours since 1970. `weight`: float32.
    """

    first: Ints
    hour: Ints
    weight: F32

    @classmethod
    def of(cls, user: Ints, hour: Ints, users: int, params: SendTimeParams) -> Activity:
        """Collapse events, given as user codes and local hours."""
        span = 1 << 40
        key = np.sort(user * span + (hour + (span >> 1)))
        begins = np.flatnonzero(np.diff(key, prepend=-1))
        repeats = np.diff(np.append(begins, len(key)))
        owner, when = np.divmod(key[begins], span)
        first = np.searchsorted(owner, np.arange(users + 1))
        return cls(first, when - (span >> 1), (repeats**params.repeat_power).astype(np.float32))

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def rows(self) -> Ints:
        """The number of rows of each user."""
        return np.diff(self.first)

    @property
    def owner(self) -> Ints:
        """The user of each row."""
        return np.repeat(np.arange(len(self)), self.rows)

    def slice(self, part: slice) -> Activity:
        """Return the users of a slice."""
        first = self.first[part.start : part.stop + 1]
        rows = slice(int(first[0]), int(first[-1]))
        return Activity(first - first[0], self.hour[rows], self.weight[rows])

    def where(self, keep: npt.NDArray[np.bool_]) -> Activity:
        """Return the same users with only some of their rows."""
        first = np.append(0, np.cumsum(keep))[self.first]
        return Activity(first, self.hour[keep], self.weight[keep])

    def take(self, users: npt.NDArray[np.integer]) -> Activity:
        """Return some users, in ascending order."""
        chosen = np.zeros(len(self), bool)
        chosen[users] = True
        kept = self.where(chosen[self.owner])
        return Activity(np.append(kept.first[:-1][chosen], kept.first[-1]), kept.hour, kept.weight)

    def counts(self, half_life_days: float = np.inf) -> F32:
        """Return weighted activity by user and hour of the week, (users, 168), halved for every half-life before the user's latest."""
        owner, weight = self.owner, self.weight
        if np.isfinite(half_life_days):
            latest = self.hour[np.maximum(self.first[1:] - 1, 0)] if len(self.hour) else np.zeros(len(self), np.int64)
            weight = weight * np.exp2((self.hour - latest[owner]) / np.float32(24 * half_life_days)).astype(np.float32)
        cell = owner * WEEK_HOURS + (self.hour + EPOCH_HOURS) % WEEK_HOURS
        return np.bincount(cell, weight, len(self) * WEEK_HOURS).reshape(-1, WEEK_HOURS).astype(np.float32)


def smoother(params: SendTimeParams) -> F32:
    """Return the (168, 168) matrix that spreads an event over the hours beside it and over days of its kind; rows sum to 1."""
    apart = np.abs(np.arange(24)[:, None] - np.arange(24))
    hours = np.exp(-0.5 * (np.minimum(apart, 24 - apart) / params.bandwidth_hours) ** 2)
    weekend = np.arange(7) >= 5
    alike = weekend[:, None] == weekend
    days = params.same_day * np.eye(7) + (1 - params.same_day) * alike / alike.sum(axis=1, keepdims=True)
    return np.kron(days, hours / hours.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Crowd:
    """What many users have in common: the population's profile (168,) and the groups' profiles (groups, 168) with their shares."""

    population: F32
    profiles: F32
    shares: F32

    @classmethod
    def of(cls, activity: Activity, smoothing: F32, params: SendTimeParams) -> Crowd:
        """Find the population and the groups, a mixture of multinomials over a sample of users with some activity."""
        hour_of_week = (activity.hour + EPOCH_HOURS) % WEEK_HOURS
        total = np.bincount(hour_of_week, activity.weight, WEEK_HOURS).astype(np.float32) @ smoothing
        population = (total + 1e-3 * total.sum() / WEEK_HOURS + 1e-6) / (total.sum() * 1.001 + WEEK_HOURS * 1e-6)
        rng = np.random.default_rng(params.seed)
        counts = activity.take(_sample(np.flatnonzero(activity.rows >= 3), params.sample, rng)).counts(_middle(params)) @ smoothing
        profiles, shares = _grouped(counts, population, params, rng)
        return cls(population, profiles, shares)

    def similar(self, counts: F32, params: SendTimeParams) -> F32:
        """Return what users like these do, (n, 168): the groups' profiles by how likely they made the smoothed `counts`."""
        return np.asarray(_responsibility(counts, self.profiles, self.shares, params) @ self.profiles, np.float32)

    def experts(self, activity: Activity, smoothing: F32, params: SendTimeParams) -> tuple[F32, F32]:
        """Return the log scores of each expert, (experts, users, 168), and the users' evidence, (users,)."""
        logs = np.empty((len(params.experts), len(activity), WEEK_HOURS), np.float32)
        logs[0] = np.log(self.population)
        for place, half_life_days in enumerate(params.half_lives_days, start=2):
            counts = activity.counts(half_life_days)
            smooth, amount = counts @ smoothing, counts.sum(axis=1, keepdims=True)
            np.log((smooth + params.shrinkage * self.population) / (amount + params.shrinkage), out=logs[place])
            if half_life_days == _middle(params):
                evidence = amount[:, 0]
                np.log(self.similar(smooth, params), out=logs[1])
        return logs, evidence


def _middle(params: SendTimeParams) -> float:
    """The half-life whose counts tell users' groups and their evidence."""
    return sorted(params.half_lives_days)[len(params.half_lives_days) // 2]


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
    """Return the shrunk profiles of users far from one another, chosen as k-means++ does (Arthur & Vassilvitskii 2007), in Hellinger distance."""
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
    profiles: F32 = roots[chosen] ** 2
    return profiles / profiles.sum(axis=1, keepdims=True)


def _responsibility(counts: F32, profiles: F32, shares: F32, params: SendTimeParams) -> F32:
    """Return the posterior of each group, (n, groups)."""
    log_likelihood = params.group_temper * (counts @ np.log(profiles).T) + np.log(shares)
    return _softmax(log_likelihood)


def _softmax(logits: F32) -> F32:
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    return chance


def pooled(logs: F32, weights: npt.NDArray[np.floating]) -> F32:
    """Return the logarithmic opinion pool of experts, (users, 168), from their log scores (experts, users, 168)."""
    return _softmax(np.tensordot(weights.astype(np.float32), logs, axes=1))


def learn_weights(activity: Activity, smoothing: F32, params: SendTimeParams) -> npt.NDArray[np.float64]:
    """Return the experts' weights, none negative, that best predict the latest hours of a sample of users from the earlier ones.

    Maximises the held-out log likelihood, less a quadratic pull to `params.weights`; the problem is convex.
    """
    prior = np.array(params.weights)
    rng = np.random.default_rng(params.seed)
    sample = activity.take(_sample(np.flatnonzero(activity.rows >= params.learn_from), params.sample, rng))
    if len(sample) == 0:
        return prior
    place = np.arange(len(sample.hour)) - sample.first[:-1][sample.owner]
    late = place >= np.ceil((1 - params.held_out) * sample.rows)[sample.owner]
    early = sample.where(~late)
    logs, _ = Crowd.of(early, smoothing, params).experts(early, smoothing, params)
    target = sample.where(late).counts()
    amount = target.sum(axis=1, keepdims=True)
    target *= np.minimum(amount, params.most_per_user) / np.maximum(amount, 1e-9)
    return _most_likely(logs, target, prior, params.weight_evidence)


def _most_likely(logs: F32, target: F32, prior: npt.NDArray[np.float64], strength: float) -> npt.NDArray[np.float64]:
    total, amount = float(target.sum()), target.sum(axis=1, keepdims=True)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        chance = pooled(logs, weights)
        gap = weights - prior
        value = -float((target * np.log(np.maximum(chance, 1e-30))).sum()) / total + strength / total * float(gap @ gap)
        slope = np.tensordot(logs, amount * chance - target, axes=2) / total + 2 * strength / total * gap
        return value, slope.astype(np.float64)

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(prior), options={"maxiter": 60})
    return np.asarray(found.x, np.float64)


def _with_channels(
    whole: SendTimes, events: pd.DataFrame, user: Ints, hour: Ints, smoothing: F32, params: SendTimeParams
) -> SendTimes:
    """Add the scores of single channels: the user's own hours, turned by how the channel's hours differ from all, then shrunk to that."""
    if "channel" not in events:
        return whole
    channel, names = pd.factorize(events["channel"])
    for code, name in enumerate(names):
        here = channel == code
        codes, own = np.unique(user[here], return_inverse=True)
        activity = Activity.of(own.astype(np.int64), hour[here], len(codes), params)
        population = Crowd.of(activity, smoothing, params).population
        scores, evidence = np.empty((len(codes), WEEK_HOURS), np.float32), np.empty(len(codes), np.float32)
        for part in _chunks(len(codes), params.chunk):
            expected = whole.scores[codes[part]] * (population / whole.population)
            expected /= expected.sum(axis=1, keepdims=True)
            counts = activity.slice(part).counts(_middle(params))
            evidence[part] = counts.sum(axis=1)
            shrunk = counts @ smoothing + params.channel_shrinkage * expected
            scores[part] = shrunk / shrunk.sum(axis=1, keepdims=True)
        level = np.where(evidence >= params.channel_shrinkage, 2, 1).astype(np.uint8)
        whole.channels[str(name)] = SendTimes(whole.users[codes], scores, population, evidence, level, whole.weights)
    return whole


def _chunks(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _sample(rows: npt.NDArray[np.intp], most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows


def best_windows(
    scores: F32, weekly: int = 7, quarter: npt.NDArray[np.uint16] | None = None, least_apart_hours: int = 4
) -> npt.NDArray[np.uint16]:
    """Return delivery windows, local quarter-hours of the week in ascending order, uint16 (n, weekly).

    Up to 7 a week: each on a day of its own at that day's best hour, the best days first but spread over the week. More: a
    second one on the best days, at least `least_apart_hours` from the first. `quarter`: 0..3 within the hour, shape (n,).
    Raises ValueError where `weekly` is more than a profile holds.
    """
    if not 0 <= weekly <= MAX_WINDOWS:
        raise ValueError(f"weekly must be between 0 and {MAX_WINDOWS}, not {weekly}")
    hour, value = _best_per_day(scores)
    chosen = _spread_days(value, min(weekly, 7))
    windows = np.take_along_axis(hour, chosen, axis=1)
    if weekly > 7:
        apart = np.abs(np.arange(WEEK_HOURS) - hour[:, :, None])
        near = (np.minimum(apart, WEEK_HOURS - apart) < least_apart_hours).any(axis=1)
        second, value = _best_per_day(np.where(near, np.float32(-1), scores))
        windows = np.concatenate([windows, np.take_along_axis(second, _spread_days(value, weekly - 7), axis=1)], axis=1)
    shift = np.zeros(len(scores), np.int64) if quarter is None else quarter.astype(np.int64)
    return np.sort(windows * 4 + shift[:, None], axis=1).astype(np.uint16)


def _best_per_day(scores: F32) -> tuple[Ints, F32]:
    """Return the best hour of the week on each day, (n, 7), and its score."""
    by_day = scores.reshape(-1, 7, 24)
    best = by_day.argmax(axis=2)
    return best + np.arange(7) * 24, np.take_along_axis(by_day, best[:, :, None], axis=2)[:, :, 0]


def _spread_days(value: F32, count: int) -> npt.NDArray[np.intp]:
    """Return `count` days per row, (n, count): the most valuable first, then days not beside a chosen one while there are any."""
    chosen = np.empty((len(value), count), np.intp)
    apart = 7 // max(count, 1)
    rank = value.astype(np.float64)
    rows = np.arange(len(value))
    for place in range(count):
        day = rank.argmax(axis=1)
        chosen[:, place] = day
        for step in range(1, apart):
            rank[rows, (day + step) % 7] -= 2
            rank[rows, (day - step) % 7] -= 2
        rank[rows, day] = -np.inf
    return chosen
