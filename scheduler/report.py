"""What a lane did, added up, and who is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.decisions import DIGEST, DISPOSITIONS, REASON, SEND, Decided, Lane, is_any
from lake.meta import MAX_CHANNELS


@dataclass
class LaneReport:
    """Totals of some decisions. `users` counts windows in the scheduled lane. `late_s`: how long after its slot the last
    user was decided. `slot`: the latest slot. `dispositions`, `sends_by_channel`: int64 by code.
    `critical_sent`, `critical_refused`: critical rows on their way, and those beyond their key's quota.
    `by_source`: candidates, and how many of them were sent as new or in a digest, by what proposed them.
    """

    users: int = 0
    candidates: int = 0
    dispositions: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(DISPOSITIONS), np.int64))
    sends_by_channel: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_CHANNELS, np.int64))
    critical_sent: int = 0
    critical_refused: int = 0
    late_s: float = 0.0
    slot: int = 0
    model_id: str = ""
    by_source: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def sends(self) -> int:
        """Notifications granted as new."""
        return int(self.sends_by_channel.sum())

    def count(self, decided: Decided) -> None:
        """Add one decided batch."""
        self.users += len(decided.candidates.users)
        self.candidates += len(decided.candidates)
        self.dispositions += np.bincount(decided.disposition, minlength=len(DISPOSITIONS))
        sent = decided.candidates.channel[decided.disposition == SEND]
        self.sends_by_channel += np.bincount(sent, minlength=MAX_CHANNELS)
        self.critical_sent += int(np.count_nonzero((decided.reason == REASON["critical"]) & (decided.disposition == SEND)))
        self.critical_refused += int(np.count_nonzero(decided.reason == REASON["critical_quota"]))
        self.model_id = decided.model_id or self.model_id
        rows, told = decided.candidates, is_any(decided.disposition, SEND, DIGEST)
        proposed, sends = (np.bincount(rows.source[which], minlength=len(rows.sources)) for which in (slice(None), told))
        self._count_sources({name: (int(n), int(sent)) for name, n, sent in zip(rows.sources, proposed, sends, strict=True) if n})

    def add(self, other: LaneReport) -> None:
        """Add another report."""
        self.users += other.users
        self.candidates += other.candidates
        self.dispositions += other.dispositions
        self.sends_by_channel += other.sends_by_channel
        self.critical_sent += other.critical_sent
        self.critical_refused += other.critical_refused
        self.late_s, self.slot = max(self.late_s, other.late_s), max(self.slot, other.slot)
        self.model_id = other.model_id or self.model_id
        self._count_sources(other.by_source)

    def _count_sources(self, counts: Mapping[str, tuple[int, int]]) -> None:
        for name, (proposed, sent) in counts.items():
            before = self.by_source.get(name, (0, 0))
            self.by_source[name] = (before[0] + proposed, before[1] + sent)


class Recorder(Protocol):
    """Is told what lanes did, for metrics and the console. Cheap; never raises for want of a listener."""

    def __call__(self, lane: Lane, report: LaneReport) -> None:
        """Take note of a report."""
        ...


def unrecorded(lane: Lane, report: LaneReport) -> None:
    """Take no note; for replay and tests."""
