"""Scores where the ranker does not answer: by popularity, until the ranker answers again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from delivery.breaker import Breaker, BreakerSettings
from lake.decisions import Candidates, Lane
from ranking.popular_scorer import Popularity
from scheduler.scoring import Scorer, Scores

SETTINGS = BreakerSettings(failures=2, rest_s=10.0)
"""After two calls in a row without an answer the ranker is asked by one call every ten seconds, and nobody else waits for it."""

log = logging.getLogger(__name__)


def _uncounted(_rows: int) -> None:
    """Count nothing."""


@dataclass
class Fallback:
    """A scorer that asks the ranker and, where that raises one of `away`, popularity; what raises one of `passing` is raised on.

    `count`: is told how many rows popularity scored. `elapsed` is a clock that only measures spans. A call that opens the circuit, or
    tries whether the ranker is back, waits as long as the ranker's scorer does; all others are answered at once. Raises what the
    popularity's store raises.
    """

    ranker: Scorer
    popularity: Popularity
    away: tuple[type[Exception], ...]
    passing: tuple[type[Exception], ...] = ()
    count: Callable[[int], None] = _uncounted
    elapsed: Callable[[], float] = time.monotonic
    _circuit: Breaker = field(default_factory=lambda: Breaker("ranker", SETTINGS))
    _is_away: bool = False

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """See scheduler.pipeline.Scorer."""
        if self._circuit.admit(self.elapsed()):
            try:
                scores = self._ranked(rows, channels, now, lane)
            except self.passing:
                raise
            except self.away as error:
                self._circuit.record(down=True, now=self.elapsed())
                self._tell(error)
            else:
                self._circuit.record(down=False, now=self.elapsed())
                self._tell(None)
                return scores
        self.count(len(rows))
        return self.popularity.score(rows.users, rows.items, rows.user, rows.item, now)

    def _ranked(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane) -> Scores:
        """Ask the ranker, once more where a replica took the call along when it died: another may live."""
        try:
            return self.ranker(rows, channels, now, lane)
        except TimeoutError:
            raise
        except self.away:
            return self.ranker(rows, channels, now, lane)

    def _tell(self, error: Exception | None) -> None:
        """Log when the ranker goes and when it is back, once each."""
        if error is not None and not self._is_away:
            log.error("no model serves: rows are scored by popularity until one does", exc_info=error)
        if error is None and self._is_away:
            log.warning("a model serves again")
        self._is_away = error is not None
