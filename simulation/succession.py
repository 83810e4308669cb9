"""Models that follow one another while history is replayed, as where a deployment is trained anew every week."""

from __future__ import annotations

from collections.abc import Callable

from lake.decisions import Candidates, Lane
from ranking.bundle import Bundle
from scheduler.pipeline import Scorer, Scores

TrainedAt = Callable[[float], Bundle]
"""moment -> a model of what happened before it."""


class Succession:
    """A scorer whose model gives way to the next one every `every_s` seconds after `since`.

    `next_at`: moment -> the scorer that takes over then; it may take as long as training does. Time never goes back.
    """

    def __init__(self, first: Scorer, since: float, every_s: float, next_at: Callable[[float], Scorer]) -> None:
        self._scorer, self._since, self._every_s, self._next_at = first, since, every_s, next_at
        self._turn = 0

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """See scheduler.pipeline.Scorer."""
        turn = int((now - self._since) // self._every_s)
        if turn > self._turn:  # nobody is decided for between two moments: only the latest model would be of use
            self._turn, self._scorer = turn, self._next_at(self._since + turn * self._every_s)
        return self._scorer(rows, channels, now, lane)
