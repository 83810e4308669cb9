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


def later(wait_s: float, call: Callable[[], None]) -> None:
    """Call something after a while, from a thread that a process which ends does not wait for."""
    timer = threading.Timer(wait_s, call)
    timer.daemon = True
    timer.start()


@dataclass
class RedisRecorder:
    """Adds reports up and writes them once in `flush_s` seconds at most, a burst's last ones too; a killed process loses as much."""

    client: Redis
    meta: Meta
    flush_s: float = FLUSH_S
    elapsed: Callable[[], float] = time.monotonic
    later: Callable[[float, Callable[[], None]], None] = later
    _waiting: dict[Lane, LaneReport] = field(default_factory=dict)
    _due: bool = False
    _flushed_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, lane: Lane, report: LaneReport) -> None:
        """See Recorder."""
        with self._lock:
            self._waiting.setdefault(lane, LaneReport()).add(report)
            if self._due:
                return
            wait_s = self._flushed_at + self.flush_s - self.elapsed()
            self._due = wait_s > 0
        if wait_s > 0:
            self.later(wait_s, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting, self._due = self._waiting, {}, False
            self._flushed_at = self.elapsed()
        try:
            self._write(waiting)
        except RedisError as error:  # what was decided is decided: counting it must not fail it
            log.warning("the console's counters miss reports of %s: %s", " and ".join(waiting), error)

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
