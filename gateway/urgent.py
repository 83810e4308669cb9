"""The urgent requests of one replica: how many at once, decided together, off the event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.lane import LaneError, UrgentLane, rows_of
from gateway.limits import MAX_FUTURE_S, Limits
from gateway.problems import overloaded
from lake.clock import Clock
from lake.metrics import Metrics
from scheduler.lanes import UrgentRequest, UrgentResult

Answer = UrgentResult | LaneError

log = logging.getLogger(__name__)


@dataclass
class UrgentDesk:
    """Runs the lane in threads of its own. `away_errors`: what the lane raises where a part does not answer."""

    lane: UrgentLane
    clock: Clock
    metrics: Metrics
    limits: Limits
    away_errors: tuple[type[Exception], ...]
    rows_in_flight: int = 0
    elapsed: Callable[[], float] = time.monotonic
    _calls: Iterator[int] = field(default_factory=itertools.count)
    _began: dict[int, float] = field(default_factory=dict)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.limits.lane_threads, thread_name_prefix="urgent")

    @contextmanager
    def room(self, rows: int, *, critical: bool = False) -> Iterator[None]:
        """Hold room for `rows` while they are decided; raises ProblemError 429 where there is none.

        A request of any size gets in where nothing else is; what is critical has as much room again to itself.
        """
        if self.rows_in_flight and self.rows_in_flight + rows > self.limits.rows_in_flight * (1 + critical):
            self.metrics.count("tidings_refused_requests_total", status="429")
            raise overloaded(f"{self.rows_in_flight:,} urgent rows are in flight; send again shortly")
        self.rows_in_flight += rows
        try:
            yield
        finally:
            self.rows_in_flight -= rows
            if not self.rows_in_flight:
                self.metrics.gauge("tidings_rows_in_flight", 0)

    async def decide(self, request: UrgentRequest) -> Answer:
        """Decide one request by itself."""
        return (await self.decide_together([request]))[0]

    async def decide_together(self, requests: Sequence[UrgentRequest]) -> list[Answer]:
        """Decide requests in one call of the lane, in their order."""
        call = next(self._calls)
        self._began[call] = self.elapsed()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._decide, list(requests))
        finally:
            del self._began[call]

    def check(self) -> None:
        """Raise RuntimeError where a call of the lane has not come back for too long."""
        oldest_s = self.elapsed() - min(self._began.values(), default=self.elapsed())
        if oldest_s > self.limits.stuck_after_s:
            raise RuntimeError(f"a call of the urgent lane has not come back for {oldest_s:.0f} s")

    def close(self) -> None:
        """Wait for what is being decided and take on nothing more."""
        self._threads.shutdown(wait=True)

    def _decide(self, requests: list[UrgentRequest]) -> list[Answer]:
        self.metrics.observe("tidings_urgent_batch_rows", sum(map(rows_of, requests)))
        # For each call of the lane, not each request: a record costs a request more than its routing does.
        self.metrics.gauge("tidings_rows_in_flight", self.rows_in_flight)
        try:
            now = self.clock.now()
            early = [in_future(request, now) for request in requests]
            good = [request for request, error in zip(requests, early, strict=True) if error is None]
            decided = iter(self.lane.decide(good, now) if good else [])
            return [next(decided) if error is None else error for error in early]
        except self.away_errors as error:
            log.warning("%d urgent requests met a part that is away", len(requests), exc_info=error)
            self.metrics.count("tidings_refused_requests_total", len(requests), status="503")
            return [LaneError("away", "the store or the ranker does not answer; send again shortly")] * len(requests)


def in_future(request: UrgentRequest, now: float) -> LaneError | None:
    """Return what is wrong where a request's item is from the future, None where it is not.

    It would be ranked as newer than anything real; a sender's clock may be off by a little.
    """
    created_at = None if request.item is None else request.item.get("created_at")
    if created_at is not None and created_at > now + MAX_FUTURE_S:
        return LaneError("invalid", f"is in the future: {created_at - now:,.0f} s from now", field="item.created_at")
    return None
