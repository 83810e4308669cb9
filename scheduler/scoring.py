"""Scoring in this process, for the pipeline: what replay uses in the place of the replicas."""

from __future__ import annotations

from lake.decisions import Candidates, Lane
from ranking.scorer import Scorer as ModelScorer
from ranking.scorer import Scores
from scheduler.pipeline import Scorer


def by_model(model: ModelScorer) -> Scorer:
    """Return the pipeline's view of a scorer in this process."""

    def score(rows: Candidates, channels: tuple[str, ...], now: float, _lane: Lane, /) -> Scores:
        return model.score(rows.users, rows.items, rows.user, rows.item, rows.channel, channels, now)

    return score
