"""The providers of one channel, in the order in which they are asked: while one is down, the next stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delivery.breaker import Breaker, BreakerSettings
from delivery.channels.base import Channel


class Way:
    """A channel's providers, each with a circuit of its own."""

    def __init__(self, providers: Sequence[Channel], settings: BreakerSettings) -> None:
        """`providers`: of one channel, the preferred one first; none for a channel that is not set up."""
        # Where another can stand in, it costs nothing to leave a provider that is down at once.
        hasty = replace(settings, failures=1)
        last = len(providers) - 1
        self.providers = [(channel, Breaker(channel.name, settings if place == last else hasty)) for place, channel in enumerate(providers)]

    def choose(self, now: float) -> tuple[Channel, Breaker] | None:
        """Return the first provider that may be asked, and its circuit, which then counts on an answer; None: all of them rest."""
        return next(((channel, breaker) for channel, breaker in self.providers if breaker.admit(now)), None)

    def has_another(self, channel: Channel) -> bool:
        """Return whether a provider other than this one is up, as far as is known."""
        return any(other is not channel and breaker.resting_until is None for other, breaker in self.providers)

    def back_at(self, now: float) -> float | None:
        """Return when to ask again, epoch seconds; None: at once."""
        rests = [breaker.back_at(now) for _, breaker in self.providers]
        return None if None in rests else min((rest for rest in rests if rest is not None), default=None)
