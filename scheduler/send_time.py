"""When each user is most likely to engage: a score for every local hour of the week, pooled from their own history and others'.

Several experts estimate a user's hours of the week: the population, the group of users with similar hours, the user's own history
forgotten at several speeds, the same by exact hours, and the session the user is in; each is shrunk to the population as evidence
thins (Dirichlet smoothing). A logarithmic opinion pool (Genest & Zidek 1986) joins them. How much each expert counts is learned on
the data itself: the last part of users' histories is held out, predicted from the earlier part, and the weights that predict it best
are kept. So where personal history misleads it loses its weight, and the pool falls back to the population. A curve learned on the
same part then makes what is promised of an hour what comes to pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from lake.profiles import NO_OFFSET, quarter_of
from scheduler.activity import F32, WEEK_HOURS, Activity, History, Ints
from scheduler.best_windows import best_windows
from scheduler.hour_experts import Crowd, Smoothing, learn_pool
from scheduler.send_time_params import SendTimeParams

LEVELS = ("population", "similar_users", "own_history")
"""What a user's score rests on mostly."""
COUNTS = 0.05
"""The least weight by which an expert counts."""


@dataclass(frozen=True)
class SendTimes:
    """Scores of the local hours of the week (0 = Monday 00h), summing to 1 over the week.

    `users`: str (n,). `scores`: float32 (n, 168). `population`: float32 (168,), for anyone else. `evidence`: float32 (n,),
    hours of activity, recent ones counting more. `level`: uint8 (n,) into LEVELS. `weights`: what each expert counted.
    `channels`: the same for single channels, of the users who were active there. `usual`: see `History`.
    """

    users: npt.NDArray[np.object_]
    scores: F32
    population: F32
    evidence: F32
    level: npt.NDArray[np.uint8]
    weights: dict[str, float]
    channels: dict[str, SendTimes] = field(default_factory=dict)
    usual: tuple[str, int] = ("", NO_OFFSET)

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
    offset, else the zone or offset that most events are in. Time and memory grow with users x 168; a million users take about a minute.
    """
    # Threads of the linear algebra wait for one another in these small products: on a busy machine several times as long.
    with threadpool_limits(1, "blas"):
        return _fit(events, users, params or SendTimeParams(), now)


def _fit(events: pd.DataFrame, users: pd.DataFrame, params: SendTimeParams, now: float | None) -> SendTimes:
    history = History.of(events[~events["kind"].isin(params.ignored_kinds)], users)
    smoothing = Smoothing.of(params)
    pool = learn_pool(history.user, history.hour, smoothing, params)
    activity = Activity.of(history.user, history.hour, len(history.ids), params)
    crowd = Crowd.of(activity, smoothing, params)
    scores, evidence = np.empty((len(activity), WEEK_HOURS), np.float32), np.empty(len(activity), np.float32)
    for part in _chunks(len(activity), params.chunk):
        experts, evidence[part] = crowd.experts(activity.slice(part), smoothing, params, pool.weights > 0)
        if now is not None:
            experts[-1, history.latest_at[part] < now - params.session_hours * 3600] = 0
        scores[part] = pool.scores(experts)
    level = levels(evidence, pool.weights, params)
    learned = dict(zip(params.experts, pool.weights.tolist(), strict=True))
    whole = SendTimes(history.ids, scores, crowd.population, evidence, level, learned, usual=history.usual)
    return _with_channels(whole, history, smoothing, params)


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
    level = np.where(evidence >= params.channel_shrinkage, 2, whole.level[users]).astype(np.uint8)
    return SendTimes(whole.users[users], scores, population, evidence, level, whole.weights)


def levels(evidence: F32, weights: npt.NDArray[np.floating], params: SendTimeParams) -> npt.NDArray[np.uint8]:
    """Return what users' scores rest on, codes into LEVELS, (n,): their own history where there is enough of it, else similar users, else
    the population; what the data taught to give no weight is nothing to rest on.

    `weights`: of the experts, in the order of `params.experts`.
    """
    without = LEVELS.index("similar_users" if weights[1] >= COUNTS else "population")
    own = (evidence >= params.shrinkage) & (weights[2:-1].sum() >= COUNTS)
    return np.where(own, LEVELS.index("own_history"), without).astype(np.uint8)


def _chunks(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
