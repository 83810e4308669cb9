"""The providers of one channel, in the order in which they are asked: while one is down, the next stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delivery.breaker import Breaker, BreakerSettings
from delivery.channels.base import Channel

CALL_S = 0.4
"""How long one call of a provider had better take: what goes with it had its last look before it, and a switch counts within a second."""


class Way:
    """A channel's providers, each with a circuit of its own."""

    def __init__(self, providers: Sequence[Channel], settings: BreakerSettings) -> None:
        """`providers`: of one channel, the preferred one first; none for a channel that is not set up."""
        # Where another can stand in, it costs nothing to leave a provider that is down at once.
        hasty = replace(settings, failures=1)
        last = len(providers) - 1
        self.providers = [(channel, Breaker(channel.name, settings if place == last else hasty)) for place, channel in enumerate(providers)]
        self._each_s: dict[int, float] = {}

    def choose(self, now: float) -> tuple[Channel, Breaker] | None:
        """Return the first provider that may be asked, and its circuit, which then counts on an answer; None: all of them rest."""
        return next(((channel, breaker) for channel, breaker in self.providers if breaker.admit(now)), None)

    def per_call(self, channel: Channel) -> int:
        """Return how many messages go with one call of a provider: as many as it lately took in CALL_S, all it takes to begin with."""
        # To begin with few would have the queue taken for slow, and what comes behind it put aside for long.
        traits, each_s = channel.traits, self._each_s.get(id(channel), 0.0)
        return traits.batch if traits.local or each_s * traits.batch <= CALL_S else max(1, round(CALL_S / each_s))

    def took(self, channel: Channel, messages: int, seconds: float) -> None:
        """Remember how long calls of a provider took that had at most so many messages each."""
        self._each_s[id(channel)] = seconds / messages

    def has_another(self, channel: Channel) -> bool:
        """Return whether a provider other than this one is up, as far as is known."""
        return any(other is not channel and breaker.resting_until is None for other, breaker in self.providers)

    def back_at(self, now: float) -> float | None:
        """Return when to ask again, epoch seconds; None: at once."""
        rests = [breaker.back_at(now) for _, breaker in self.providers]
        return None if None in rests else min((rest for rest in rests if rest is not None), default=None)
