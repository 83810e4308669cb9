"""What is off: a lane, a channel, a kind of item, a source, or everything. Until it is on, nothing of it is decided or delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lake.decisions import Lane
from lake.errors import InputError
from lake.meta import Meta

EVERYTHING = "everything"
LANES: tuple[Lane, ...] = ("scheduled", "urgent")
FRESH_S = 0.5
"""How long a process goes by what it has read: whatever is switched off has stopped within a second."""


@dataclass(frozen=True)
class Off:
    """Why and when something was switched off; `at`: seconds."""

    reason: str
    at: float


class Switches(Protocol):
    """What is off, by name: `everything`, `lane:urgent`, `channel:push`, `kind:post`, `source:trending`. One round trip per call."""

    def off(self) -> Mapping[str, Off]:
        """Return what is off."""
        ...

    def turn_off(self, name: str, reason: str, now: float) -> None:
        """Switch something off; repeating it replaces the reason."""
        ...

    def turn_on(self, name: str) -> bool:
        """Switch something on again; returns whether it was off."""
        ...


@dataclass
class MemorySwitches:
    """Switches in a dictionary, for tests and replay."""

    names: dict[str, Off] = field(default_factory=dict)

    def off(self) -> Mapping[str, Off]:
        """See Switches."""
        return dict(self.names)

    def turn_off(self, name: str, reason: str, now: float) -> None:
        """See Switches."""
        self.names[name] = Off(reason, now)

    def turn_on(self, name: str) -> bool:
        """See Switches."""
        return self.names.pop(name, None) is not None


def nothing_off() -> frozenset[str]:
    """Return that nothing is off."""
    return frozenset()


@dataclass
class Watch:
    """The names of what is off, read anew after FRESH_S; threads may share it."""

    switches: Switches
    elapsed: Callable[[], float] = time.monotonic
    _read: tuple[float, frozenset[str]] | None = None

    def __call__(self) -> frozenset[str]:
        """Return what is off."""
        now, read = self.elapsed(), self._read
        if read is None or now - read[0] >= FRESH_S:
            read = self._read = (now, frozenset(self.switches.off()))
        return read[1]


def name_of(text: str, meta: Meta) -> str:
    """Return the name of what a person wants to switch; raises InputError where there is no such thing."""
    what, _, which = text.partition(":")
    known: dict[str, tuple[str, ...]] = {"lane": LANES, "channel": meta.channels}
    if text == EVERYTHING or (what in known and which in known[what]) or (what in ("kind", "source") and which):
        return text
    if what in known:
        raise InputError(f"{text!r}: there is no {what} {which!r}; name one of {', '.join(known[what])}")
    raise InputError(f"{text!r} cannot be switched; name everything, lane:LANE, channel:CHANNEL, kind:KIND or source:SOURCE")
