"""The store's clock: hosts skew, so everyone reads the store's TIME, or the time it is held at."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from lake.keys import HELD_CLOCK


@dataclass(frozen=True)
class RedisClock:
    """TIME of the store; a demo or a drill may hold the clock of a whole deployment at one moment."""

    client: Redis

    def now(self) -> float:
        """Return the held time if there is one, else the store's TIME, in seconds."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        pipe.get(HELD_CLOCK)
        (seconds, micros), held = pipe.execute()
        return float(held) if held is not None else float(seconds) + micros / 1e6

    def hold(self, at: float) -> None:
        """Hold every clock of this store at `at` (seconds)."""
        self.client.set(HELD_CLOCK, repr(float(at)))

    def release(self) -> None:
        """Let the clock follow TIME again."""
        self.client.delete(HELD_CLOCK)

    def is_held(self) -> bool:
        """Return whether the clock is held."""
        return bool(self.client.exists(HELD_CLOCK))
