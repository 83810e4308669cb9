"""The pipeline's scorer behind Serve: rows go to a ranker replica, scores come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from lake.decisions import Candidates, Lane
from ranking.scorer import ScoreRequest, Scores

TIMEOUT_S: dict[Lane, float] = {"urgent": 5.0, "scheduled": 60.0}
"""How long a lane waits for scores; a window can wait for a replica to start, a live room can't."""


@dataclass(frozen=True)
class HandleScorer:
    """Scores by the `Ranker` deployment; urgent rows go before all others. For threads without an event loop."""

    handle: DeploymentHandle[Any]

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """See scheduler.pipeline.Scorer; raises TimeoutError where no replica answers in time."""
        request = ScoreRequest(rows.users, rows.items, rows.user, rows.item, rows.channel, channels, now)
        scores: Scores = self.handle.score.remote(request, is_urgent=lane == "urgent").result(timeout_s=TIMEOUT_S[lane])
        return scores
