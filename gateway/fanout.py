"""Urgent items for the followers of a large topic: taken on durably, decided page by page in the background.

A job is on disk before it is answered for. Whoever works on one holds its lease and renews it with every page; a job whose
worker died is taken up by another from its first page, and what was granted before stays granted once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gateway.lane import UrgentLane
from lake.clock import Clock
from scheduler.lanes import UrgentRequest

LEASE_S = 30.0
IDLE_S = 5.0
"""How often to look for a job that another gateway left behind."""
PAGE = 500
"""Users decided at a time: few enough to let small urgent requests through in between."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A request to all followers of a topic; the request's own users are left empty."""

    request: UrgentRequest
    topic: str

    def as_row(self) -> dict[str, Any]:
        """Return the plain values."""
        return {**self.request.__dict__, "channels": list(self.request.channels), "topic": self.topic}

    @staticmethod
    def of_row(row: Mapping[str, Any]) -> Job:
        """Return the job of plain values."""
        fields = {name: value for name, value in row.items() if name != "topic"}
        return Job(UrgentRequest(**fields | {"channels": tuple(row["channels"])}), row["topic"])


class FanoutStore(Protocol):
    """Where jobs live, by decision id. One atomic round trip per call; leases are compared with `now` (seconds)."""

    def put(self, job: Job, now: float) -> None:
        """Keep a job, free for anyone; putting it again while it is kept changes nothing."""
        ...

    def claim(self, worker: str, now: float) -> Job | None:
        """Return the job that has been free for longest, now leased to `worker`, or None."""
        ...

    def renew(self, decision_id: str, worker: str, until: float) -> bool:
        """Hold a job until `until` (seconds; a past time frees it); returns False where another worker has it or it is gone."""
        ...

    def finish(self, decision_id: str, worker: str) -> None:
        """Forget a job, unless another worker has it."""
        ...


@dataclass
class MemoryFanout:
    """Jobs in a dictionary, for tests."""

    jobs: dict[str, Job] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, job: Job, now: float) -> None:
        """See FanoutStore."""
        with self._lock:
            if self.jobs.setdefault(job.request.decision_id, job) is job:
                self.leases[job.request.decision_id] = ("", now)

    def claim(self, worker: str, now: float) -> Job | None:
        """See FanoutStore."""
        with self._lock:
            free = [(until, decision_id) for decision_id, (_, until) in self.leases.items() if until <= now]
            if not free:
                return None
            decision_id = min(free)[1]
            self.leases[decision_id] = (worker, now + LEASE_S)
            return self.jobs[decision_id]

    def renew(self, decision_id: str, worker: str, until: float) -> bool:
        """See FanoutStore."""
        with self._lock:
            mine = self.leases.get(decision_id, ("", 0.0))[0] == worker
            if mine:
                self.leases[decision_id] = (worker, until)
            return mine

    def finish(self, decision_id: str, worker: str) -> None:
        """See FanoutStore."""
        with self._lock:
            if self.leases.get(decision_id, ("", 0.0))[0] == worker:
                del self.jobs[decision_id], self.leases[decision_id]


def pages_of(lane: UrgentLane, topic: str) -> Iterator[list[str]]:
    """Yield the followers of a topic in pages of at most PAGE, each page without repeats."""
    for page in lane.follower_pages(topic):
        distinct = list(dict.fromkeys(page))
        for start in range(0, len(distinct), PAGE):
            yield distinct[start : start + PAGE]


@dataclass
class Fanout:
    """Works on jobs in one thread. `away_errors`: what the parts raise where they do not answer; the job is then left for later."""

    store: FanoutStore
    lane: UrgentLane
    clock: Clock
    worker: str
    away_errors: tuple[type[Exception], ...]
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def accept(self, request: UrgentRequest, topic: str) -> None:
        """Take on a request to all followers of a topic; it is on disk when this returns."""
        self.store.put(Job(replace(request, users=[]), topic), self.clock.now())
        self._wake.set()

    def work(self) -> bool:
        """Do one job, if there is one; returns whether there was. Stops between pages when told to, leaving the job to others."""
        job = self.store.claim(self.worker, self.clock.now())
        if job is None:
            return False
        decision_id = job.request.decision_id
        for page in pages_of(self.lane, job.topic):
            now = self.clock.now()
            if not self.store.renew(decision_id, self.worker, now if self._stop.is_set() else now + LEASE_S) or self._stop.is_set():
                return True
            self.lane.decide([replace(job.request, users=page)], now)
        self.store.finish(decision_id, self.worker)
        return True

    def start(self) -> None:
        """Begin working in a thread."""
        self._thread = threading.Thread(target=self._loop, name="fanout", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RuntimeError where the thread has died."""
        if self._thread is not None and not self._thread.is_alive():
            raise RuntimeError("the thread that serves large topics has died; its log says why")

    def stop(self) -> None:
        """Stop after the page at hand."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if self.work():
                    continue
            except self.away_errors:
                log.warning("a part is away; jobs wait", exc_info=True)
            except Exception:  # else one job would end one gateway after the other, and all other jobs would wait for it
                log.exception("a job for a large topic failed; it is tried again when its lease is over, others go on")
            self._wake.wait(IDLE_S)
