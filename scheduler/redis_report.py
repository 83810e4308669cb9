"""Counters of what lanes did, in the store, for the console."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis import Redis, RedisError

from lake.decisions import DISPOSITIONS, Lane
from lake.keys import Keys
from lake.meta import Meta
from lake.metrics import CANDIDATES, LAST_SLOT, LAST_WINDOW_LAG_S, MODEL_ID, WINDOWS, disposition_field, sends_field
from scheduler.report import LaneReport

FLUSH_S = 1.0

log = logging.getLogger(__name__)


def _in_a_thread(after_s: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(after_s, call)
    timer.daemon = True
    timer.start()


@dataclass
class RedisRecorder:
    """Adds reports up and writes them at most once a second; a killed process loses a second of counts, nothing else.

    `later`: calls a function after that many seconds, so that what the last report of a burst told does not wait for the next burst.
    """

    client: Redis
    meta: Meta
    elapsed: Callable[[], float] = time.monotonic
    later: Callable[[float, Callable[[], None]], object] = _in_a_thread
    _waiting: dict[Lane, LaneReport] = field(default_factory=dict)
    _flushed_at: float = float("-inf")
    _is_due: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, lane: Lane, report: LaneReport) -> None:
        """See Recorder."""
        with self._lock:
            self._waiting.setdefault(lane, LaneReport()).add(report)
            wait_s = self._flushed_at + FLUSH_S - self.elapsed()
            if wait_s > 0.0:
                if not self._is_due:
                    self._is_due = True
                    self.later(wait_s, self.flush)
                return
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._flushed_at, self._is_due = self.elapsed(), False
        try:
            self._write(waiting)
        except RedisError as error:  # what was decided is decided: counting it must not fail it
            log.warning("the console's counters miss %d reports: %s", len(waiting), error)

    def _write(self, waiting: dict[Lane, LaneReport]) -> None:
        pipe = self.client.pipeline(transaction=False)
        key = self.meta.keys.of_shard(Keys.METRICS, 0)
        for lane, report in waiting.items():
            for name, n in self._fields(lane, report).items():
                if n:
                    pipe.hincrby(key, name, n)
            if report.model_id:
                pipe.hset(key, MODEL_ID, report.model_id)
            if lane == "scheduled" and report.slot:
                pipe.hset(key, mapping={LAST_SLOT: report.slot, LAST_WINDOW_LAG_S: round(report.late_s, 3)})
        pipe.execute()

    def _fields(self, lane: Lane, report: LaneReport) -> dict[str, int]:
        sends = zip(self.meta.channels, report.sends_by_channel.tolist(), strict=False)
        return {
            WINDOWS: report.users if lane == "scheduled" else 0,
            CANDIDATES: report.candidates,
            **{sends_field(lane, channel): n for channel, n in sends},
            **{disposition_field(name): n for name, n in zip(DISPOSITIONS, report.dispositions.tolist(), strict=True)},
        }
