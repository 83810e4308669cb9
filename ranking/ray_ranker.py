"""The ranker as a Serve replica: ids in, scores out, urgent chunks first, never computing on the replica's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray import serve

from lake.items import ItemStore, ItemTable
from ranking import bundle as bundles
from ranking.chunks import ChunkQueue, Running, merge
from ranking.scorer import Scorer, ScoreRequest, Scores
from ranking.store import FeatureStore

MAX_ONGOING_REQUESTS = 200
"""Below this the router, which knows no priority, would hold requests back; callers keep windows' calls to half of it."""
HEALTH_TIMEOUT_S = 20.0

Ticket = Future[Scores]


@dataclass(frozen=True)
class Stores:
    """What a replica reads: state of users and items, and the items themselves."""

    features: FeatureStore
    items: ItemStore


class Ranking:
    """Turns of one worker thread over a queue of requests. The callable class behind the `Ranker` deployment.

    `model`: folder of the bundle, verified before it serves. `open_stores`: makes this replica's own store clients.
    `threads`: CPUs of one prediction, those of the replica.
    """

    def __init__(self, model: str, open_stores: Callable[[], Stores], threads: int = 1) -> None:
        stores = open_stores()
        self._scorer = Scorer(bundles.load(Path(model), threads=threads), stores.features, ItemTable(stores.items))
        self._queue: ChunkQueue[Ticket] = ChunkQueue(merge_rows=self._scorer.chunk_rows)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ranker")

    async def score(self, request: ScoreRequest, is_urgent: bool = False) -> Scores:
        """Return the scores of a request's rows, in their order; urgent requests go before all others."""
        ticket: Ticket = Future()
        self._queue.put(ticket, request, is_urgent=is_urgent)
        self._take_turn()
        return await asyncio.wrap_future(ticket)

    async def model_id(self) -> str:
        """Return the id of the model in service."""
        return self._scorer.model_id

    async def check_health(self) -> None:
        """Raise unless the worker thread answers in time and the store is reachable from it."""
        answer = asyncio.wrap_future(self._worker.submit(self._scorer.store.get, [], []))
        await asyncio.wait_for(answer, HEALTH_TIMEOUT_S)

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
        running = work if isinstance(work, Running) else self._started(requests, work[1])
        if not running.step():
            self._queue.put_back(running)
            self._take_turn()
            return
        for ticket, scores in running.results():
            ticket.set_result(scores)

    def _started(self, requests: list[tuple[Ticket, ScoreRequest]], is_urgent: bool) -> Running[Ticket]:
        job = self._scorer.prepare(merge([request for _, request in requests]))
        return Running(requests, job, job.chunks(), is_urgent)


def _fail(held: list[Ticket], turn: Future[None]) -> None:
    error = turn.exception()
    for ticket in held if error is not None else []:
        if not ticket.done():
            ticket.set_exception(error)


Ranker = serve.deployment(name="Ranker", max_ongoing_requests=MAX_ONGOING_REQUESTS)(Ranking)
