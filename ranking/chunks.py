"""What the ranker does next: urgent work first, small urgent requests together, big ones a chunk at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ranking.scorer import Chunk, Job, ScoreRequest, Scores

TicketT = TypeVar("TicketT")


@dataclass
class Running(Generic[TicketT]):
    """Requests whose state is at hand, merged into one job, and how far it is."""

    tickets: list[tuple[TicketT, ScoreRequest]]
    job: Job
    chunks: list[Chunk]
    is_urgent: bool
    done: int = 0

    def step(self) -> bool:
        """Run one chunk; returns whether it was the last."""
        if self.done < len(self.chunks):
            self.job.run(self.chunks[self.done])
            self.done += 1
        return self.done >= len(self.chunks)

    def results(self) -> list[tuple[TicketT, Scores]]:
        """Return each request's own scores."""
        parts = split(self.job.scores(), [request for _, request in self.tickets])
        return [(ticket, scores) for (ticket, _), scores in zip(self.tickets, parts, strict=True)]


@dataclass
class ChunkQueue(Generic[TicketT]):
    """Waiting requests and running jobs, any thread may use it; `take` never blocks.

    `merge_rows`: urgent requests are merged up to about this many rows; a scheduled request is its own job.
    """

    merge_rows: int
    _waiting: tuple[deque[tuple[TicketT, ScoreRequest]], deque[tuple[TicketT, ScoreRequest]]] = field(
        default_factory=lambda: (deque(), deque())
    )
    _running: tuple[deque[Running[TicketT]], deque[Running[TicketT]]] = field(default_factory=lambda: (deque(), deque()))
    _lock: Lock = field(default_factory=Lock)

    def __len__(self) -> int:
        return sum(len(queue) for queue in (*self._waiting, *self._running))

    @property
    def has_urgent(self) -> bool:
        """Whether urgent work waits."""
        return bool(self._waiting[0] or self._running[0])

    def put(self, ticket: TicketT, request: ScoreRequest, *, is_urgent: bool) -> None:
        """Add a request."""
        with self._lock:
            self._waiting[not is_urgent].append((ticket, request))

    def put_back(self, running: Running[TicketT]) -> None:
        """Add a job that has chunks left, behind the others of its lane."""
        with self._lock:
            self._running[not running.is_urgent].append(running)

    def take(self) -> Running[TicketT] | tuple[list[tuple[TicketT, ScoreRequest]], bool] | None:
        """Return what is to be done now: requests to start together and whether they are urgent, a job to go on with, or None.

        New urgent requests go before running urgent jobs, so that a small one never waits for a big one; then
        running scheduled jobs before new ones, so that what was begun is finished.
        """
        with self._lock:
            if self._waiting[0]:
                return self._merged(), True
            if self._running[0]:
                return self._running[0].popleft()
            if self._running[1]:
                return self._running[1].popleft()
            return ([self._waiting[1].popleft()], False) if self._waiting[1] else None

    def _merged(self) -> list[tuple[TicketT, ScoreRequest]]:
        taken = [self._waiting[0].popleft()]
        rows, model_id = len(taken[0][1]), taken[0][1].model_id
        while self._waiting[0] and rows + len(self._waiting[0][0][1]) <= self.merge_rows and self._waiting[0][0][1].model_id == model_id:
            taken.append(self._waiting[0].popleft())
            rows += len(taken[-1][1])
        return taken


def merge(requests: list[ScoreRequest]) -> ScoreRequest:
    """Return one request with the rows of all, in order; each keeps its own users, items and moment. All ask for the same model."""
    if len(requests) == 1:
        return requests[0]
    names: dict[str, int] = {}
    for request in requests:
        for name in request.channels:
            names.setdefault(name, len(names))
    users = np.cumsum([0] + [len(request.users) for request in requests])
    items = np.cumsum([0] + [len(request.items) for request in requests])
    return ScoreRequest(
        users=[user for request in requests for user in request.users],
        items=[item for request in requests for item in request.items],
        user=np.concatenate([request.user + start for request, start in zip(requests, users, strict=False)]).astype(np.int32),
        item=np.concatenate([request.item + start for request, start in zip(requests, items, strict=False)]).astype(np.int32),
        channel=np.concatenate([_recoded(request, names) for request in requests]),
        channels=tuple(names),
        at=np.concatenate([np.broadcast_to(request.at, len(request.items)) for request in requests]),
        model_id=requests[0].model_id,
    )


def _recoded(request: ScoreRequest, names: dict[str, int]) -> npt.NDArray[np.uint8]:
    codes = np.array([names[name] for name in request.channels], np.uint8)
    return codes[request.channel]


def split(scores: Scores, requests: list[ScoreRequest]) -> list[Scores]:
    """Return each request's part of the scores of their `merge`."""
    if len(requests) == 1:
        return [scores]
    rows, users, items = (
        np.cumsum([0, *map(len, column)]) for column in (requests, [request.users for request in requests], [r.items for r in requests])
    )
    return [
        Scores(
            scores.probability[rows[i] : rows[i + 1]],
            scores.value[rows[i] : rows[i + 1]],
            scores.model_id,
            scores.known_user[users[i] : users[i + 1]],
            scores.known_item[items[i] : items[i + 1]],
        )
        for i in range(len(requests))
    ]
