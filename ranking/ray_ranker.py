"""The ranker as a Serve replica: ids in, scores out, urgent chunks first, never computing on the replica's event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from ray import serve

from lake.alarms import Alarms, MemoryAlarms
from lake.clock import Clock, HeldClock
from lake.items import ItemStore, ItemTable
from lake.logs import SERVE_LOGS, Reason
from lake.metrics import MemoryMetrics, Metrics
from ranking import explain as explaining
from ranking import shadow
from ranking.bundle import Bundle
from ranking.chunks import ChunkQueue, Running, merge
from ranking.explain import Explained
from ranking.guard import GuardRule
from ranking.guarding import FILE as GUARD_FILE
from ranking.guarding import Guarding, Watchman
from ranking.in_service import InService
from ranking.light import MOST_PER_USER
from ranking.scorer import Scorer, ScoreRequest, Scores
from ranking.shadow import Allowance, ShadowLog, ShadowRule
from ranking.store import FeatureStore
from ranking.value import ValueRule

MAX_ONGOING_REQUESTS = 200
"""Below this the router, which knows no priority, would hold requests back; callers keep windows' calls to half of it."""
HEALTH_TIMEOUT_S = 20.0
LOOK_EVERY_S = 1.0
"""How often a replica looks whether another model is to serve, puts the challenger's scores down, and tells what its guard found."""

logger = logging.getLogger(__name__)
Ticket = Future[Scores]


@dataclass(frozen=True)
class Stores:
    """What a replica reads: state of users and items, and the items themselves; where it logs a challenger's scores, if anywhere;
    where it tells that something is wrong, and everybody's clock, by which that is believed for a while.
    """

    features: FeatureStore
    items: ItemStore
    shadow: ShadowLog | None = None
    alarms: Alarms = field(default_factory=MemoryAlarms)
    metrics: Metrics = field(default_factory=MemoryMetrics)
    clock: Clock = field(default_factory=lambda: HeldClock(0.0))


@dataclass(frozen=True)
class Standing:
    """What a replica says of its models. `problem`: why it could not follow the registry; `alarm`: what its guard found wrong; the rest
    is of the challenger's cost so far.
    """

    model_id: str
    challenger_id: str
    problem: str
    live_s: float
    shadow_s: float
    shadow_rows: int
    alarm: str = ""


class Ranking:
    """Turns of one worker thread over a queue of requests. The callable class behind the `Ranker` deployment.

    `model`: folder of a bundle or of a registry of bundles, verified before they serve. `open_stores`: makes this replica's own store
    clients. `threads`: CPUs of one prediction, those of the replica. `most_per_user`: see Scorer. A second thread follows the
    registry: what it loads takes the place of what serves between two jobs, so that a job begun with one model ends with it.
    `guard`: how scheduled traffic is watched, None: not at all. `value`: what outcomes are worth to the deployment.
    """

    def __init__(
        self,
        model: str,
        open_stores: Callable[[], Stores],
        threads: int = 1,
        rule: ShadowRule | None = None,
        look_every_s: float = LOOK_EVERY_S,
        most_per_user: int = MOST_PER_USER,
        guard: GuardRule | None = None,
        value: ValueRule | None = None,
    ) -> None:
        stores = open_stores()
        self._features, self._log, self._clock = stores.features, stores.shadow, stores.clock
        self._watchman = Watchman(stores.alarms, stores.metrics)
        self._models = InService(Path(model), stores.features, ItemTable(stores.items), threads, most_per_user, value)
        kept = Path(model) / GUARD_FILE if self._models.may_change else None
        self._guarding = Guarding(guard, kept) if guard is not None else None
        self._queue: ChunkQueue[Ticket] = ChunkQueue(merge_rows=self._scorer.chunk_rows)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ranker")
        self._allowance, self._random = Allowance(rule or ShadowRule()), np.random.default_rng()
        self._is_sampling, self._shadow_rows = False, 0
        self._shadowed: deque[pd.DataFrame] = deque()
        self._stopping, self._is_lost = threading.Event(), False
        if self._models.may_change or guard is not None:
            # Before the first request: what the other replicas rank by, this one ranks by, too.
            self._follow_once()
            threading.Thread(target=self._follow, args=(look_every_s,), name="models", daemon=True).start()

    @property
    def _scorer(self) -> Scorer:
        return self._models.held.serving

    async def score(self, request: ScoreRequest, is_urgent: bool = False) -> Scores:
        """Return the scores of a request's rows, in their order and all by one model; urgent requests go before all others."""
        ticket: Ticket = Future()
        self._queue.put(ticket, request, is_urgent=is_urgent)
        self._take_turn()
        return await asyncio.wrap_future(ticket)

    async def explain(self, request: ScoreRequest, model_id: str) -> Explained:
        """Return what made the scores of at most explaining.MOST_ROWS rows, by a model that serves, served or is in the registry.

        Computed from the state as it is now, beside the worker; raises BundleError where the model is gone.
        """
        job = await asyncio.wrap_future(self._worker.submit(self._scorer.prepare, request))
        return await asyncio.to_thread(lambda: explaining.explain(self._models.loaded(model_id), job, request))

    async def model_id(self) -> str:
        """Return the id of the model in service."""
        return self._scorer.model_id

    async def standing(self) -> Standing:
        """Return which models this replica holds, and what the challenger has cost."""
        held, spent = self._models.held, self._allowance
        challenger = held.challenger.model_id if held.challenger else ""
        cost = (spent.live_s, spent.spent_s, self._shadow_rows)
        return Standing(held.serving.model_id, challenger, self._models.problem, *cost, self._watchman.told)

    async def check_health(self) -> None:
        """Raise unless the worker thread answers in time and the store is reachable from it."""
        answer = asyncio.wrap_future(self._worker.submit(self._features.get, [], []))
        await asyncio.wait_for(answer, HEALTH_TIMEOUT_S)

    def stop(self) -> None:
        """End the thread that follows the registry."""
        self._stopping.set()

    def _take_turn(self) -> None:
        """Let the worker do one turn: every request brings one, and so does every job with chunks left."""
        held: list[Ticket] = []
        self._worker.submit(self._turn, held).add_done_callback(partial(_fail, held))

    def _turn(self, held: list[Ticket]) -> None:
        """Do what is next; `held` gets the tickets that fail if this turn does."""
        work = self._queue.take()
        if work is None:
            return
        requests = work.tickets if isinstance(work, Running) else [(t, r) for t, r in work[0] if t.set_running_or_notify_cancel()]
        if not requests:
            return
        held.extend(ticket for ticket, _ in requests)
        began_s = perf_counter()
        running = work if isinstance(work, Running) else self._started(requests, work[1])
        is_done = running.step()
        if not is_done:
            self._queue.put_back(running)
            self._take_turn()
        else:
            for ticket, scores in running.results():
                ticket.set_result(scores)
        self._allowance.earn(perf_counter() - began_s, began_s)
        if is_done:
            self._offer(running)
            self._guard(running)

    def _guard(self, running: Running[Ticket]) -> None:
        """Let the guard look at some rows of a job that is done and answered; what goes wrong here is none of the callers' business."""
        if self._guarding is None:
            return
        try:
            self._guarding.look(running.job, self._models.held, is_urgent=running.is_urgent)
        except Exception:
            logger.exception("the guard could not look at a job; it looks at the next one")

    def _started(self, requests: list[tuple[Ticket, ScoreRequest]], is_urgent: bool) -> Running[Ticket]:
        merged = merge([request for _, request in requests])
        held = self._models.held
        relief = self._guarding.relief_for(merged, held.serving.model_id) if self._guarding is not None else None
        job = held.scorer(merged.model_id).prepare(merged, relief)
        return Running(requests, job, job.chunks(), is_urgent)

    def _offer(self, running: Running[Ticket]) -> None:
        """Let the challenger score some rows of a job that is done and answered, where it may cost something yet."""
        challenger = self._models.held.challenger
        if challenger is None or self._log is None or self._is_sampling or running.job.relief is not None or not self._allowance.is_left:
            return
        rows = min(self._allowance.rule.sample_rows, int(self._allowance.rows))
        sample = shadow.sample_of(running.job, [request for _, request in running.tickets], rows, self._random)
        if sample is not None and sample.job.bundle.model_id != challenger.model_id:
            self._is_sampling = True
            self._worker.submit(self._shadow, sample, challenger)

    def _shadow(self, sample: shadow.Sample, challenger: Bundle) -> None:
        """Score a sample with the challenger, once nothing urgent waits; what goes wrong here is none of the callers' business."""
        if self._queue.has_urgent:
            self._worker.submit(self._shadow, sample, challenger)
            return
        began_s = perf_counter()
        try:
            frame = shadow.scored(sample, challenger)
            self._shadowed.append(frame)
            self._shadow_rows += len(frame)
        finally:
            self._allowance.spend(perf_counter() - began_s, len(sample.rows))
            self._is_sampling = False

    def _follow(self, every_s: float) -> None:
        while not self._stopping.wait(every_s):
            self._follow_once()

    def _follow_once(self) -> None:
        try:
            self.look()
            self._is_lost = False
        except Exception:
            if not self._is_lost:
                logger.exception("the models could not be followed; trying again, and saying no more of it until it works")
            self._is_lost = True

    def look(self) -> bool:
        """Follow the registry and put down what the challenger scored; returns whether the models changed."""
        problem, changed = self._models.problem, self._models.look()
        if self._models.problem and self._models.problem != problem:
            logger.error("goes on serving %s: %s", self._scorer.model_id, Reason(self._models.problem))
        if self._guarding is not None:
            self._watchman.tell(self._guarding, self._clock.now(), self._scorer.model_id, self._models.loaded)
        frames = [self._shadowed.popleft() for _ in range(len(self._shadowed))]
        if frames and self._log is not None:
            self._log.write(pd.concat(frames, ignore_index=True))
        return changed


def _fail(held: list[Ticket], turn: Future[None]) -> None:
    error = turn.exception()
    for ticket in held if error is not None else []:
        if not ticket.done():
            ticket.set_exception(error)


Ranker = serve.deployment(
    name="Ranker", max_ongoing_requests=MAX_ONGOING_REQUESTS, graceful_shutdown_wait_loop_s=1.0, logging_config=SERVE_LOGS
)(Ranking)
