"""A guard at work in a replica: it looks at jobs that are done, says what ranks meanwhile, and whether anybody must be told."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lake.alarms import Alarm, Alarms
from lake.metrics import Metrics
from ranking.bundle import Bundle
from ranking.guard import Guard, GuardRule
from ranking.in_service import Held
from ranking.relief import Relief, Relieving, scores_of
from ranking.scorer import Job, ScoreRequest

FILE = "guard.npz"
"""Beside the registry's pointer: what the replicas' guards have learned. Each writes its own; the last one is as good as any."""
SAVE_EVERY_S = 600.0
"""By the time of the rows."""

logger = logging.getLogger(__name__)


@dataclass
class Guarding:
    """Watches what a replica scores, on its worker's thread. `relief`: what ranks now, None: the model that serves, as it is.

    `keep`: where what was learned is kept, if anywhere. `tripped_at`: since when, by the time of the rows; `seen_at`: of the last
    block that was judged.
    """

    rule: GuardRule
    keep: Path | None = None
    relief: Relief | None = None
    tripped_at: float | None = None
    seen_at: float = 0.0
    trips: int = 0
    _model_id: str = ""
    _guard: Guard | None = None
    _relieving: Relieving = field(default_factory=Relieving)
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def alarm(self) -> str:
        """What is wrong and what is done about it, "" while all is well."""
        guard, relief = self._guard, self.relief
        if guard is None or relief is None:
            return ""
        found, more = guard.findings[:3], len(guard.findings) - 3
        what = "; ".join(map(str, found)) + (f"; and {more} more" if more > 0 else "")
        by = f"by {relief.bundle.model_id}, which served before" if relief.bundle.model_id != self._model_id else "without them"
        return f"{what}. Ranks {by}, and sends as much as before"

    @property
    def columns_out(self) -> int:
        """How many columns are out."""
        return len(self._guard.findings) if self._guard is not None else 0

    def relief_for(self, request: ScoreRequest) -> Relief | None:
        """Return what is to score a request in place of the model that it asks for."""
        relief = self.relief
        return relief if relief and request.model_id in ("", self._model_id, relief.bundle.model_id) else None

    def follow(self, serving: Bundle) -> None:
        """Watch another model: what was learned stays, for it reads the same rows, and was let serve since its scores were alike.

        Unless the guard is tripped: a model made since then takes what is new for normal.
        """
        if serving.model_id == self._model_id:
            return
        was_watching, self._model_id = bool(self._model_id), serving.model_id
        if self._guard is None or self._guard.is_tripped or serving.normal is None:
            self._guard = Guard(serving.normal, self.rule) if serving.normal is not None else None
        if not was_watching and self._guard is not None and self.keep is not None:
            self._guard.load(self.keep)
        self._relieving, self.relief, self.tripped_at = Relieving(), None, None

    def look(self, job: Job, held: Held, *, is_urgent: bool) -> None:
        """Look at some rows of a job that is done; urgent ones, many users to one item, are like nothing but themselves."""
        self.follow(held.serving.bundle)
        guard, now = self._guard, job.at
        room = guard.room(now) if guard is not None and not is_urgent else 0
        if guard is None or not room or not len(job.user):
            return
        places = np.sort(self._random.choice(len(job.user), min(room, len(job.user)), replace=False))
        rows = job.assembler.rows(job.user[places], job.item[places], job.channel[places])
        block = guard.see(rows, scores_of(held.serving.bundle, rows), now)
        if block is None:
            return
        before = held.before.bundle if held.before is not None else None
        relief = self._relieving.after(block, guard, held.serving.bundle, before)
        if relief is not None and self.relief is None:
            self.tripped_at, self.trips = now, self.trips + 1
        self.relief, self.seen_at = relief, now
        if relief is None:
            self.tripped_at = None

    def save(self) -> None:
        """Keep what was learned; raises OSError where that cannot be done."""
        if self._guard is not None and self.keep is not None and self._guard.memory.known.any():
            self._guard.save(self.keep)


@dataclass
class Watchman:
    """Tells people what a replica's guard found: once in the log, and where alarms and metrics go. `told`: what it last said."""

    alarms: Alarms
    metrics: Metrics
    told: str = ""
    _name: str = field(default_factory=lambda: f"guard {uuid.uuid4().hex[:6]}")
    _trips: int = 0
    _rung_at: float = 0.0
    _saved_at: float = 0.0

    def tell(self, guarding: Guarding) -> None:
        """Say what changed since the last call, and keep what the guard has learned from time to time; blocks for the store."""
        alarm, since, at = guarding.alarm, guarding.tripped_at, guarding.seen_at
        self.metrics.count("tidings_guard_trips_total", guarding.trips - self._trips)
        self.metrics.gauge("tidings_guard_columns_out", guarding.columns_out)
        self._trips = guarding.trips
        if alarm and since is not None and (not self.told or at > self._rung_at):
            self.alarms.ring(self._name, Alarm(alarm, since, at))
            self._rung_at = at
            if not self.told:
                logger.warning("the guard tripped: %s", alarm)
        if self.told and not alarm:
            self.alarms.clear(self._name)
            logger.warning("the guard is at rest again: features and scores are what they were")
        self.told = alarm
        if at - self._saved_at >= SAVE_EVERY_S:
            guarding.save()
            self._saved_at = at
