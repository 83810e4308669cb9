"""A circuit per channel: a provider that is down is left alone for a while, so that it slows no other channel and costs no attempts."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerError

from delivery.channels.base import Answer, Transient, Unknown

NEVER_S = timedelta(days=36500).total_seconds()
"""The library would end the rest by the machine's clock; here the store's time does."""

TRYING_S = 1.0
"""How long what waits for the answer to a try is put aside at first."""


@dataclass(frozen=True)
class BreakerSettings:
    """`failures`: in a row, before a channel rests. `rest_s`: for how long, until one call tries again; longer than any send takes."""

    failures: int = 3
    rest_s: float = 30.0


class _DownError(Exception):
    """What the library counts."""


class Breaker:
    """Whether a channel may be called. Closed: yes; open: not before its rest is over; half open: one call at a time tries."""

    def __init__(self, name: str, settings: BreakerSettings) -> None:
        self._rest_s = settings.rest_s
        self._circuit = CircuitBreaker(settings.failures, NEVER_S, name=name, throw_new_error_on_trip=False)
        self._until = self._known_at = -math.inf

    @property
    def resting_until(self) -> float | None:
        """When the next call may try, epoch seconds; None while every call may."""
        return None if self._circuit.current_state == STATE_CLOSED else self._until

    def back_at(self, now: float) -> float | None:
        """Return when to ask again, epoch seconds, None: at once. While a call tries: after as long again as it has kept us waiting."""
        if self._circuit.current_state != STATE_HALF_OPEN:
            return self.resting_until
        trying_s = now - (self._until - self._rest_s)
        return min(now + max(trying_s, TRYING_S), self._until)

    def admit(self, now: float) -> bool:
        """Return whether a call may be made; where the rest is over, the first to ask may, and alone until its answer or another rest."""
        if self._circuit.current_state == STATE_CLOSED:
            return True
        if now < self._until:
            return False
        self._circuit.half_open()
        self._until = now + self._rest_s
        return True

    def unused(self, now: float) -> None:
        """Say that an admitted call was not made after all: a try is the next one's to ask."""
        if self._circuit.current_state == STATE_HALF_OPEN:
            self._until = now

    def record(self, *, down: bool, now: float, began: float = math.inf) -> None:
        """Count how a call went. What still comes in of calls begun before the circuit opened changes nothing.

        `began`: when a call did that was left behind, epoch seconds. That it failed says nothing where others were answered since.
        """
        if down and began <= self._known_at:
            return
        before = self._circuit.current_state
        with suppress(_DownError, CircuitBreakerError):
            self._circuit.call(_fail if down else _pass)
        opened = self._circuit.current_state == STATE_OPEN != before
        if opened:
            self._until = now + self._rest_s
        if opened or not down:
            self._known_at = now


def is_down(answer: Answer) -> bool:
    """Return whether an answer says that nothing else would get through either."""
    return isinstance(answer, Transient | Unknown) and answer.down


def _pass() -> None:
    """Count as an answer."""


def _fail() -> None:
    raise _DownError
