"""What is read from the store now and then, and gone by in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Lately(Generic[T]):
    """The answer of `read`, which blocks, read anew once it is `fresh_s` seconds old or the clock was set back; threads may share it."""

    read: Callable[[], T]
    fresh_s: float
    _kept: tuple[float, T] | None = None

    def at(self, now: float) -> T:
        """Return the answer as known at a moment, in seconds."""
        kept = self._kept
        if kept is None or not 0 <= now - kept[0] < self.fresh_s:
            kept = self._kept = (now, self.read())
        return kept[1]
