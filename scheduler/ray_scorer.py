"""The pipeline's scorer behind Serve: rows go to ranker replicas, scores come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ray.serve.handle import DeploymentHandle

from lake.decisions import Candidates, Lane
from ranking.blocks import Matrix
from ranking.scorer import ScoreRequest
from scheduler.scoring import Scores

TIMEOUT_S: dict[Lane, float] = {"urgent": 5.0, "scheduled": 60.0}
"""How long a lane waits for scores; a window can wait for a replica to start, a live room can't."""


MOST_ROWS = 25_000
"""Rows of one call: a window's chunk makes a few, so that no replica stands idle beside a busy one. Serve's messages end at 4 MiB."""


class MixedModelsError(TimeoutError):
    """Replicas that change models do not agree on one that scores all rows of a call; the lane tries again later."""


@dataclass(frozen=True)
class Joined:
    """The scores of several calls, end to end."""

    probability: Matrix
    value: Matrix
    model_id: str


@dataclass(frozen=True)
class HandleScorer:
    """Scores by the `Ranker` deployment; urgent rows go before all others. For threads without an event loop.

    `score`: the method of the deployment's handle, which is taken once: a handle makes its router when it is first touched,
    and threads that touch it together make several, of which the autoscaler hears but one.
    """

    score: DeploymentHandle[Any]

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """See scheduler.pipeline.Scorer; raises TimeoutError where no replica answers in time."""
        requests = list(requests_of(rows, channels, now))
        calls = [self.score.remote(request, is_urgent=lane == "urgent") for request in requests]
        scores = [call.result(timeout_s=TIMEOUT_S[lane]) for call in calls]
        if len(scores) == 1:
            answer: Scores = scores[0]
            return answer
        scores = self._by_one_model(scores, requests, lane)
        probability, value = (np.concatenate([getattr(part, name) for part in scores]) for name in ("probability", "value"))
        return Joined(probability, value, scores[0].model_id)

    def _by_one_model(self, scores: list[Scores], requests: list[ScoreRequest], lane: Lane) -> list[Scores]:
        """Return scores of which all are by one model: those by another are asked for again.

        While replicas change from one model to the next, all of them hold the one before.
        """
        for model_id in dict.fromkeys(part.model_id for part in scores):
            again = {
                place: self.score.remote(replace(requests[place], model_id=model_id), is_urgent=lane == "urgent")
                for place, part in enumerate(scores)
                if part.model_id != model_id
            }
            found = [again[place].result(timeout_s=TIMEOUT_S[lane]) if place in again else part for place, part in enumerate(scores)]
            if all(part.model_id == model_id for part in found):
                return found
        raise MixedModelsError("the rankers' replicas are changing models, and no one of them scores all rows")


def requests_of(rows: Candidates, channels: tuple[str, ...], now: float) -> Iterator[ScoreRequest]:
    """Yield requests of about MOST_ROWS rows, in order, each with the users it is about; at least one. Rows are sorted by user.

    A user's rows stay together: which of them the heavy model looks at depends on all of them.
    """
    for part in _parts(rows.user):
        user = rows.user[part]
        first, last = (int(user[0]), int(user[-1])) if len(user) else (0, -1)
        users = rows.users[first : last + 1]
        yield ScoreRequest(users, rows.items, user - np.int32(first), rows.item[part], rows.channel[part], channels, now)


def _parts(user: npt.NDArray[np.int32]) -> Iterator[slice]:
    """Yield spans of at least MOST_ROWS rows, the last one excepted, that end where a user's rows end."""
    start = 0
    while True:
        last = min(start + MOST_ROWS, len(user)) - 1
        end = int(np.searchsorted(user, user[last], side="right")) if last >= start else start
        yield slice(start, end)
        if end >= len(user):
            return
        start = end
