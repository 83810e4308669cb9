"""What is wrong right now, as the parts of the system tell it, for the console and `tidings status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

FRESH_S = 3600.0
"""An alarm that was not repeated for so long is no longer believed: whoever raised it may be gone."""


@dataclass(frozen=True)
class Alarm:
    """What is wrong, since when, and when that was last said; seconds. `remedy`: what all are to do meanwhile, packed."""

    text: str
    since: float
    at: float
    remedy: bytes = b""


class Alarms(Protocol):
    """What is wrong, by the name of who says so. One round trip per call."""

    def ringing(self, now: float) -> Mapping[str, Alarm]:
        """Return the alarms of the last FRESH_S."""
        ...

    def ring(self, name: str, alarm: Alarm) -> None:
        """Raise an alarm, or say it again."""
        ...

    def clear(self, name: str) -> None:
        """Say that all is well again."""
        ...


@dataclass
class MemoryAlarms:
    """Alarms in a dictionary, for tests and replay."""

    alarms: dict[str, Alarm] = field(default_factory=dict)

    def ringing(self, now: float) -> Mapping[str, Alarm]:
        """See Alarms."""
        return fresh(self.alarms, now)

    def ring(self, name: str, alarm: Alarm) -> None:
        """See Alarms."""
        self.alarms[name] = alarm

    def clear(self, name: str) -> None:
        """See Alarms."""
        self.alarms.pop(name, None)


def fresh(alarms: Mapping[str, Alarm], now: float) -> dict[str, Alarm]:
    """Return the alarms that are still believed."""
    return {name: alarm for name, alarm in sorted(alarms.items()) if now - alarm.at <= FRESH_S}
