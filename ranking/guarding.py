"""A guard at work in a replica: it looks at jobs that are done, says what ranks meanwhile, and whether anybody must be told."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lake.alarms import FRESH_S, Alarm, Alarms
from lake.errors import InputError
from lake.logs import Reason
from lake.metrics import Metrics
from ranking.bundle import Bundle
from ranking.guard import Guard, GuardRule
from ranking.in_service import Held
from ranking.relief import Relief, Relieving, model_of, scores_of, watched_by
from ranking.scorer import Job, ScoreRequest

FILE = "guard.npz"
"""Beside the registry's pointer: what the replicas' guards have learned. Each writes its own; the last one is as good as any."""
SAVE_EVERY_S = 600.0
"""By the time of the rows."""
REPEAT_S = FRESH_S / 6
"""How often a replica says again that its guard has tripped: it stands as long as the replica does, however seldom a block fills."""

logger = logging.getLogger(__name__)


@dataclass
class Guarding:
    """Watches what a replica scores, on its worker's thread. `relief`: what ranks now, None: the model that serves, as it is; it is the
    same in all replicas, whichever of them found out, so `proposed` is only what this one would have (packed, b"": nothing).

    `keep`: where what was learned is kept, if anywhere. `tripped_at`: since when, by the time of the rows; `seen_at`: of the last
    block that was judged.
    """

    rule: GuardRule
    keep: Path | None = None
    relief: Relief | None = None
    proposed: bytes = b""
    tripped_at: float | None = None
    seen_at: float = 0.0
    trips: int = 0
    _last: Relief | None = None
    _model_id: str = ""
    _guard: Guard | None = None
    _relieving: Relieving = field(default_factory=Relieving)
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def alarm(self) -> str:
        """What is wrong and what is done about it, "" while all is well."""
        guard, relief = self._guard, self.relief
        if guard is None or self.tripped_at is None:
            return ""
        found, more = guard.findings[:3], len(guard.findings) - 3
        what = "; ".join(map(str, found)) + (f"; and {more} more" if more > 0 else "")
        if not self.proposed:
            return f"{what}. Ranks as ever: too little is known of normal days here to do better"
        other = relief is not None and model_of(relief.bundle.model_id) != self._model_id
        by = "by the model that served before" if other else "without them"
        return f"{what}. Ranks {by}, and sends as much as before"

    @property
    def columns_out(self) -> int:
        """How many columns are out."""
        return len(self._guard.findings) if self._guard is not None else 0

    def relief_for(self, request: ScoreRequest, serving: str) -> Relief | None:
        """Return what is to score a request in place of the model that serves.

        One that asks for a model by its id gets that: of a call whose rows go to several replicas, all must be scored alike.
        """
        relief = self.relief
        if not request.model_id:
            return relief if relief is not None and relief.watched == serving else None
        return next((each for each in (relief, self._last) if each is not None and each.bundle.model_id == request.model_id), None)

    def take(self, remedies: list[bytes], serving: str, loaded: Callable[[str], Bundle]) -> None:
        """Rank by the first of all replicas' remedies that is for the model that serves, or as ever where there is none.

        `loaded`: gives a model by its id. Raises InputError where its model is not at hand, which leaves all as it is.
        """
        relief = self.relief
        packed = next((each for each in remedies if watched_by(each) == serving), b"")
        if packed == (relief.packed if relief is not None else b""):
            return
        found = Relief.unpacked(packed, loaded) if packed else None
        self._last, self.relief = relief or self._last, found

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
        self._relieving, self.proposed, self.tripped_at = Relieving(), b"", None

    def look(self, job: Job, held: Held, *, is_urgent: bool) -> None:
        """Look at some rows of a job that is done; urgent ones, many users to one item, are like nothing but themselves."""
        self.follow(held.serving.bundle)
        guard, now = self._guard, job.at
        room = guard.room(now) if guard is not None and not is_urgent else 0
        if guard is None or not room or not len(job.user):
            return
        places = np.sort(self._random.choice(len(job.user), min(room, len(job.user)), replace=False))
        rows = job.assembler.rows(job.user[places], job.item[places], job.channel[places])
        users, items = len(np.unique(job.user[places])), len(np.unique(job.item[places]))
        block = guard.see(rows, scores_of(held.serving.bundle, rows), users, items, now)
        if block is None:
            return
        before = held.before.bundle if held.before is not None else None
        self.proposed = self._relieving.after(block, guard, held.serving.bundle, before, now)
        if guard.is_tripped and self.tripped_at is None:
            self.tripped_at, self.trips = now, self.trips + 1
        self.seen_at = now
        if not guard.is_tripped:
            self.tripped_at = None

    def save(self) -> None:
        """Keep what was learned; raises OSError where that cannot be done."""
        if self._guard is not None and self.keep is not None and self._guard.memory.known.any():
            self._guard.save(self.keep)


@dataclass
class Watchman:
    """Tells people what a replica's guard found, once in the log and where alarms and metrics go, and has it do what all replicas do.

    `told`: what it last said.
    """

    alarms: Alarms
    metrics: Metrics
    told: str = ""
    _name: str = field(default_factory=lambda: f"guard {uuid.uuid4().hex[:6]}")
    _trips: int = 0
    _rung_at: float = 0.0
    _rung: bytes = b""
    _saved_at: float = 0.0
    _problem: str = ""

    def tell(self, guarding: Guarding, now: float, serving: str, loaded: Callable[[str], Bundle]) -> None:
        """Say what changed since the last call, and rank by what the alarms of all replicas ask for; blocks for the store.

        `now`: of everybody's clock; `serving`: the id of the model that serves; `loaded`: gives a model by its id. Keeps what the guard has
        learned from time to time.
        """
        alarm, since, at = guarding.alarm, guarding.tripped_at, guarding.seen_at
        self.metrics.count("tidings_guard_trips_total", guarding.trips - self._trips)
        self.metrics.gauge("tidings_guard_columns_out", guarding.columns_out)
        self._trips = guarding.trips
        if alarm and since is not None and (alarm != self.told or guarding.proposed != self._rung or now - self._rung_at >= REPEAT_S):
            self.alarms.ring(self._name, Alarm(alarm, since, now, guarding.proposed))
            self._rung, self._rung_at = guarding.proposed, now
            if not self.told:
                logger.warning("the guard tripped: %s", alarm)
        if self.told and not alarm:
            self.alarms.clear(self._name)
            logger.warning("the guard is at rest again: features and scores are what they were")
        self.told = alarm
        try:
            guarding.take(remedies(self.alarms.ringing(now)), serving, loaded)
        except InputError as error:
            self._complain(str(error))
        if at - self._saved_at >= SAVE_EVERY_S:
            guarding.save()
            self._saved_at = at

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            logger.warning("ranks as ever, though the guard of a replica has tripped: %s", Reason(problem))
        self._problem = problem


def remedies(ringing: Mapping[str, Alarm]) -> list[bytes]:
    """Return what alarms ask for, that of who was first before the others', so that all who read them agree."""
    first = sorted(ringing.items(), key=lambda each: (each[1].since, each[0]))
    return [alarm.remedy for _, alarm in first if alarm.remedy]
