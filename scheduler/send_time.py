"""When each user is most likely to engage: a score for every local hour of the week, pooled from their own history and others'.

Several experts estimate a user's hours of the week: the population, the group of users with similar hours, the user's own history
forgotten at several speeds, and the session the user is in; each is shrunk to the population as evidence thins (Dirichlet
smoothing). A logarithmic opinion pool (Genest & Zidek 1986) joins them. How much each expert counts is learned on the data itself:
the last part of users' histories is held out, predicted from the earlier part, and the weights that predict it best are kept. So
where personal history misleads it loses its weight, and the pool falls back to the population.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy
from threadpoolctl import threadpool_limits

from lake.profiles import MAX_WINDOWS, quarter_of
from scheduler.windows import LocalTimes

WEEK_HOURS = 168
_EVER_HOURS = 1 << 32
"""More hours than any time asked about is away from 1970."""
EPOCH_HOURS = 72
"""1970-01-01 was a Thursday; weeks count from Monday."""
LEVELS = ("population", "similar_users", "own_history")
"""What a user's score rests on mostly."""

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SendTimeParams:
    """How history becomes scores. The defaults were chosen on earlier parts of two real histories (commits and article reading).

    `half_lives_days`: how fast each own-history expert forgets, counted back from the user's latest event. `session_hours`: the
    same for the session expert, which speaks only for users seen within that time; it spreads events by `session_bandwidth_hours`
    over the same day and is shrunk by `session_shrinkage` events. Without it the others would learn that people come back at the
    hour they were last seen, because a session goes on.
    `repeat_power`: n events in one hour of one date count n ** repeat_power, for a burst is little more evidence than one.
    `bandwidth_hours`: spread of an event over the hours beside it. `same_day`: share of an event that stays with its day of
    the week; the rest goes to its kind of day, Monday to Friday or the weekend. `shrinkage`: evidence, in events, at which a
    user's own history counts as much as the population. `channel_shrinkage`: the same for one channel against all of them.
    `groups`: kinds of users looked for, by expectation maximisation over `sample` users in `group_rounds` rounds, whose
    likelihoods are raised to `group_temper`, for hours come in runs and are less evidence than independent draws.
    `group_evidence`: events' worth of population in each group's profile. `held_out`: share of a user's latest hours the
    weights are learned on, of users with at least `learn_from` hours; a user counts at most `most_per_user` hours there.
    `weights`: of each expert before anything is learned, `weight_evidence`: how many held
    out hours they are worth. `ignored_kinds`: events that do not show that the user wanted to hear something.
    """

    half_lives_days: tuple[float, ...] = (4.0, 20.0, 100.0, 500.0)
    session_hours: float = 6.0
    session_bandwidth_hours: float = 1.0
    session_shrinkage: float = 1.0
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
    weights: tuple[float, ...] = (0.1, 0.4, 0.1, 0.1, 0.1, 0.3, 0.2)
    weight_evidence: float = 10.0
    ignored_kinds: tuple[str, ...] = ("unsubscribe", "mute", "dismiss", "complaint", "bounce", "delivered")
    chunk: int = 4_096
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.experts):
            raise ValueError(f"weights must be {len(self.experts)} numbers, one per expert ({', '.join(self.experts)})")

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the experts, in the order of their weights."""
        return ("population", "similar_users", *(f"own_{days:g}_days" for days in self.half_lives_days), "session")

    @property
    def middle_half_life_days(self) -> float:
        """The half-life whose counts tell users' groups and their evidence."""
        return sorted(self.half_lives_days)[len(self.half_lives_days) // 2]


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
        return pd.Index(self.users, dtype=object)  # as text it would be turned into objects for each page of users

    def for_users(self, user_ids: Sequence[str], channel: str | None = None) -> F32:
        """Return the scores of users, (n, 168): on the channel, else on any, else those of the population."""
        scores = np.tile(self.population, (len(user_ids), 1))
        for times in (self, self.channels.get(channel) if channel is not None else None):
            if times is not None:
                row = times._index.get_indexer(pd.Index(user_ids, dtype=object))
                scores[row >= 0] = times.scores[row[row >= 0]]
        return scores

    def rests_on(self, user_ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        """Return what the scores of users rest on mostly, codes into LEVELS, (n,)."""
        row = self._index.get_indexer(pd.Index(user_ids, dtype=object))
        return np.where(row >= 0, np.append(self.level, np.uint8(0))[row], 0).astype(np.uint8)

    def windows_for(self, user_ids: Sequence[str], weekly: int = 7, channel: str | None = None) -> npt.NDArray[np.uint16]:
        """Return `best_windows` of users, in the quarter of the hour that each keeps to."""
        return best_windows(self.for_users(user_ids, channel), weekly, quarter_of(user_ids))


def fit(events: pd.DataFrame, users: pd.DataFrame, params: SendTimeParams | None = None, now: float | None = None) -> SendTimes:
    """Return the send times of every user with events: as of `now` (seconds), or of each user's latest event where it is None.

    `events`, `users`: interchange tables. An event's local time is by its own offset, else the user's zone, else the user's
    offset, else the commonest zone of the events. Time and memory grow with users x 168; a million users take about a minute.
    """
    # Threads of the linear algebra wait for one another in these small products: on a busy machine several times as long.
    with threadpool_limits(1, "blas"):
        return _fit(events, users, params or SendTimeParams(), now)


def _fit(events: pd.DataFrame, users: pd.DataFrame, params: SendTimeParams, now: float | None) -> SendTimes:
    history = History.of(events[~events["kind"].isin(params.ignored_kinds)], users)
    smoothing = Smoothing.of(params)
    weights = learn_weights(history.user, history.hour, smoothing, params)
    activity = Activity.of(history.user, history.hour, len(history.ids), params)
    crowd = Crowd.of(activity, smoothing, params)
    scores, evidence = np.empty((len(activity), WEEK_HOURS), np.float32), np.empty(len(activity), np.float32)
    for part in _chunks(len(activity), params.chunk):
        experts, evidence[part] = crowd.experts(activity.slice(part), smoothing, params, weights > 0)
        if now is not None:
            experts[-1, history.latest_at[part] < now - params.session_hours * 3600] = 0
        scores[part] = pooled(experts, weights)
    level = np.where(evidence >= params.shrinkage, 2, 1).astype(np.uint8)
    learned = dict(zip(params.experts, weights.tolist(), strict=True))
    whole = SendTimes(history.ids, scores, crowd.population, evidence, level, learned)
    return _with_channels(whole, history, smoothing, params)


@dataclass(frozen=True)
class History:
    """Events as columns sorted by user and local hour: `user` codes into `ids`, `hour` since 1970, `channel` codes into `channels`.

    `latest_at`: seconds, each user's latest event. All but `ids` and `channels` are int64.
    """

    ids: npt.NDArray[np.object_]
    user: Ints
    hour: Ints
    channel: Ints
    channels: list[str]
    latest_at: Ints

    @classmethod
    def of(cls, events: pd.DataFrame, users: pd.DataFrame) -> History:
        """Read the interchange tables."""
        at = events["at"].dt.as_unit("s").astype("int64").to_numpy()
        user, ids = pd.factorize(events["user_id"])
        offset_s = _local_times(ids, np.bincount(user, minlength=len(ids)), users).take(user).offset_at(at)
        if "utc_offset_minutes" in events:
            own = events["utc_offset_minutes"].to_numpy(np.float64, na_value=np.nan)
            offset_s = np.where(np.isnan(own), offset_s, np.nan_to_num(own) * 60).astype(np.int64)
        hour = (at + offset_s) // 3600
        order = np.argsort(user * _EVER_HOURS + hour, kind="stable")
        channel, channels = np.full(len(user), -1), pd.Index([])
        if "channel" in events and events["channel"].notna().any():
            channel, channels = pd.factorize(events["channel"])
        latest_at = np.full(len(ids), np.iinfo(np.int64).min)
        np.maximum.at(latest_at, user, at)
        return cls(np.asarray(ids, dtype=object), user[order], hour[order], channel[order], [str(name) for name in channels], latest_at)


def _local_times(ids: pd.Index[str], events: Ints, users: pd.DataFrame) -> LocalTimes:
    """Return the local times of users, by the zone or else the offset in `users`, else the zone most of all `events` (n,) are in."""
    row = pd.Index(users["user_id"]).get_indexer(ids)
    zone = _of_rows(users, "timezone", row, "")
    offset = _of_rows(users, "utc_offset_minutes", row, np.nan).astype(np.float64)
    has_zone = zone != ""
    in_zone = pd.Series(events[has_zone]).groupby(zone[has_zone]).sum()
    zone[~has_zone & np.isnan(offset)] = in_zone.idxmax() if len(in_zone) else ""
    return LocalTimes.of(zone, offset)


def _of_rows(frame: pd.DataFrame, column: str, row: npt.NDArray[np.intp], missing: object) -> npt.NDArray[np.object_]:
    """Return a column of the rows, -1 for none, with `missing` where there is nothing."""
    values = np.full(len(frame) + 1, missing, object)
    if column in frame:
        there = frame[column].notna().to_numpy()
        values[:-1][there] = frame[column].to_numpy(object)[there]
    of_rows: npt.NDArray[np.object_] = values[row]
    return of_rows


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
        """Collapse events, given as user codes and local hours and sorted by both."""
        key = user * _EVER_HOURS + hour
        begins = np.flatnonzero(np.diff(key, prepend=-_EVER_HOURS))
        repeats = np.diff(np.append(begins, len(key)))
        first = np.searchsorted(user[begins], np.arange(users + 1))
        return cls(first, hour[begins], (repeats**params.repeat_power).astype(np.float32))

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


@dataclass(frozen=True)
class Smoothing:
    """Matrices (168, 168) that spread an event over the hours beside it and over days of its kind; rows sum to 1."""

    habit: F32
    session: F32

    @classmethod
    def of(cls, params: SendTimeParams) -> Smoothing:
        """Build the matrices."""
        return cls(_smoother(params.bandwidth_hours, params.same_day), _smoother(params.session_bandwidth_hours, 1.0))


def _smoother(bandwidth_hours: float, same_day: float) -> F32:
    apart = np.abs(np.arange(24)[:, None] - np.arange(24))
    hours = np.exp(-0.5 * (np.minimum(apart, 24 - apart) / bandwidth_hours) ** 2)
    weekend = np.arange(7) >= 5
    alike = weekend[:, None] == weekend
    days = same_day * np.eye(7) + (1 - same_day) * alike / alike.sum(axis=1, keepdims=True)
    return np.kron(days, hours / hours.sum(axis=1, keepdims=True)).astype(np.float32)


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
            np.log((smooth + params.shrinkage * self.population) / (amount + params.shrinkage), out=logs[place])
            if half_life_days == params.middle_half_life_days:
                evidence = amount[:, 0]
                np.log(self.similar(smooth, params), out=logs[1])
        if not asked[-1]:
            return logs, evidence
        counts = activity.counts(params.session_hours / 24)
        shrunk = counts @ smoothing.session + params.session_shrinkage * self.population
        np.log(shrunk / (counts.sum(axis=1, keepdims=True) + params.session_shrinkage), out=logs[-1])
        return logs, evidence


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


def learn_weights(user: Ints, hour: Ints, smoothing: Smoothing, params: SendTimeParams) -> npt.NDArray[np.float64]:
    """Return the experts' weights, none negative, that best predict a sample of users' latest events from their earlier ones.

    `user`, `hour`: of each event, sorted by user and hour; a user's history is cut between two events, be it within a session.
    Maximises the held-out log likelihood, less a quadratic pull to `params.weights`; the problem is convex.
    """
    prior = np.array(params.weights)
    events = np.bincount(user)
    rng = np.random.default_rng(params.seed)
    sample = _sample(np.flatnonzero(events >= params.learn_from), params.sample, rng)
    if len(sample) == 0:
        return prior
    place = np.arange(len(user)) - (np.cumsum(events) - events)[user]
    late = place >= np.floor((1 - params.held_out) * events)[user]
    code = np.full(len(events), -1)
    code[sample] = np.arange(len(sample))
    early, target = (
        Activity.of(code[user[rows]], hour[rows], len(sample), params) for rows in ((code[user] >= 0) & ~late, (code[user] >= 0) & late)
    )
    logs, _ = Crowd.of(early, smoothing, params).experts(early, smoothing, params)
    return _most_likely(logs, target.counts(), prior, params)


def _most_likely(logs: F32, target: F32, prior: npt.NDArray[np.float64], params: SendTimeParams) -> npt.NDArray[np.float64]:
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

    found = scipy.optimize.minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(prior), options={"maxiter": 60})
    weights = np.asarray(found.x, np.float64)
    weights[0] += max(0.0, 1.0 - weights.sum())  # what no expert earned is the population's: better than a uniform week
    return weights


def _with_channels(whole: SendTimes, history: History, smoothing: Smoothing, params: SendTimeParams) -> SendTimes:
    """Add the scores of single channels."""
    for code, name in enumerate(history.channels):
        here = history.channel == code
        users, own = np.unique(history.user[here], return_inverse=True)
        activity = Activity.of(own, history.hour[here], len(users), params)
        whole.channels[name] = _on_channel(whole, users, activity, smoothing, params)
    return whole


def _on_channel(whole: SendTimes, users: Ints, activity: Activity, smoothing: Smoothing, params: SendTimeParams) -> SendTimes:
    """Return the users' own hours on a channel, shrunk to their hours on any, turned by how the channel's hours differ from all."""
    population = Crowd.of(activity, smoothing, params).population
    scores, evidence = np.empty((len(users), WEEK_HOURS), np.float32), np.empty(len(users), np.float32)
    for part in _chunks(len(users), params.chunk):
        expected = whole.scores[users[part]] * (population / whole.population)
        expected /= expected.sum(axis=1, keepdims=True)
        counts = activity.slice(part).counts(params.middle_half_life_days)
        evidence[part] = counts.sum(axis=1)
        shrunk = counts @ smoothing.habit + params.channel_shrinkage * expected
        scores[part] = shrunk / shrunk.sum(axis=1, keepdims=True)
    level = np.where(evidence >= params.channel_shrinkage, 2, 1).astype(np.uint8)
    return SendTimes(whole.users[users], scores, population, evidence, level, whole.weights)


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
