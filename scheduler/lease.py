"""Leases with fencing tokens: who leads, and who may commit to a shard.

A lease may outlive its holder's belief in it (a long pause), so whatever it protects checks the token: each new holder gets
a higher one, for ever, and the commit refuses any but the latest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from lake.keys import LAYOUT, Keys

SET_BACK_S = 1.0
"""Two who ask at once may arrive in the other order; by more than this only a clock that was set is late."""


def shard_lease(shard: int) -> str:
    """Return the name of a shard's lease, whose token the commit checks. Its key shares the shard's hash tag."""
    return f"{LAYOUT}:{{{shard}}}:{Keys.LEASE}"


class Leases(Protocol):
    """Leases by name; the name is the store's key (`lake.keys.LEADER`, `shard_lease(shard)`). One round trip per call."""

    def acquire(self, name: str, owner: str, now: float, ttl_s: float) -> int | None:
        """Take a lease that is free, expired, or the owner's own, until `now + ttl_s`; return its token, None: another's.

        The token grows with each change of hands and never goes back, also across expiry and release. An owner that
        still holds it keeps its token. A lease taken or extended later than `now` by over
        SET_BACK_S, because the clock was set back since, is free.
        """
        ...

    def renew(self, name: str, owner: str, token: int, now: float, ttl_s: float) -> bool:
        """Extend a lease one still holds; False: it is lost, stop what it protects. An expired lease is lost."""
        ...

    def release(self, name: str, owner: str, token: int) -> bool:
        """Give up a lease at once; False: it was not held any more."""
        ...

    def token(self, name: str) -> int:
        """Return the latest token of a lease, 0: never taken."""
        ...


@dataclass(frozen=True)
class Held:
    """Who holds a lease. `until`, and `at`, when it was last taken or extended: epoch seconds."""

    token: int
    owner: str
    until: float
    at: float


@dataclass
class MemoryLeases:
    """Leases in a dictionary, for tests and replay."""

    held: dict[str, Held] = field(default_factory=dict)

    def acquire(self, name: str, owner: str, now: float, ttl_s: float) -> int | None:
        """See Leases."""
        last = self.held.get(name, Held(0, "", now, now))
        mine = last.owner == owner
        if last.until > now and not mine and last.at <= now + SET_BACK_S:
            return None
        token = last.token if mine and last.until > now else last.token + 1
        self.held[name] = Held(token, owner, now + ttl_s, now)
        return token

    def renew(self, name: str, owner: str, token: int, now: float, ttl_s: float) -> bool:
        """See Leases."""
        last = self.held.get(name)
        if last is None or (last.owner, last.token) != (owner, token) or last.until <= now:
            return False
        self.held[name] = replace(last, until=now + ttl_s, at=now)
        return True

    def release(self, name: str, owner: str, token: int) -> bool:
        """See Leases."""
        last = self.held.get(name)
        if last is None or (last.owner, last.token) != (owner, token):
            return False
        self.held[name] = Held(last.token, "", float("-inf"), float("-inf"))
        return True

    def token(self, name: str) -> int:
        """See Leases."""
        last = self.held.get(name)
        return 0 if last is None else last.token
