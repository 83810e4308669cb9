"""Where `now` comes from. Only the loops (lanes, ticker, courier, gateway) own a Clock; everything else takes `now`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """The time of day. Blocks for one store round trip at most."""

    def now(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        ...


@dataclass
class HeldClock:
    """A clock that stands still until it is set; replay and tests move it."""

    at: float

    def now(self) -> float:
        """Return the time it was last set to."""
        return self.at
