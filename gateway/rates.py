"""How often a key may call: one window over all gateways, from which each takes a share at a time to hand out by itself.

So a request that is within its rate costs a look at a counter in this process, and one in twenty of them a round trip to the
store. Windows are the sliding ones of the `limits` library, counted on the store's clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.storage.base import SlidingWindowCounterSupport
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool

from gateway.api_keys import SCOPES, ApiKey
from gateway.problems import rate_limited
from lake.errors import InputError

SHARES = 20
"""A gateway takes this part of a window at a time. What it has taken and not handed out it keeps: with R gateways a window may see
R / SHARES more than its limit, or as much less."""
REFUSED_S = 1.0
"""A refusal is repeated for at most so long without asking the store again, so that whoever calls on and on costs it little."""


def parse_rate(text: str) -> RateLimitItem:
    """Return the rate of a text such as `100/minute`; raises InputError where it is none."""
    try:
        item = parse(text)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise InputError(f"{text!r} is no rate; write one such as 1000/second, 100/minute or 5000/hour")
    return item


def check_rates(rates: Mapping[str, str]) -> dict[str, str]:
    """Return rates by scope; raises InputError naming a scope that is not known or a text that is no rate."""
    for scope, text in rates.items():
        if scope not in SCOPES:
            raise InputError(f"rates: unknown scope {scope!r}; there are {', '.join(SCOPES)}")
        parse_rate(text)
    return dict(rates)


@dataclass(frozen=True)
class Standing:
    """Where a key stands after a request: `remaining` requests of its window, about, and `reset_s` until there are more."""

    name: str
    rate: RateLimitItem
    remaining: int
    reset_s: float

    def headers(self) -> dict[str, str]:
        """Return the fields RateLimit-Policy and RateLimit, as the IETF's draft on rate limit headers (version 10) has them."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.rate.amount};w={self.rate.get_expiry()}',
            "RateLimit": f'"{self.name}";r={self.remaining};t={math.ceil(self.reset_s)}',
        }


@dataclass
class Till:
    """What this gateway has taken from one key's window and not handed out. `refused_until` is on the process's own clock."""

    name: str
    rate: RateLimitItem
    key_id: str
    left: int = 0
    remaining: int = 0
    reset_s: float = 0.0
    refused_until: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def standing(self) -> Standing:
        """Return where the key stands, as far as this gateway knows."""
        return Standing(self.name, self.rate, self.left + self.remaining, self.reset_s)


@dataclass
class Rates:
    """The rates of keys and scopes. `of_scope`: by scope, the rate of each key that has none of its own. `open_storage`: where windows are
    counted; for one process its memory. `elapsed` is a clock that only measures spans.
    """

    of_scope: Mapping[str, str] = field(default_factory=dict)
    open_storage: Callable[[], Storage] = MemoryStorage
    elapsed: Callable[[], float] = time.monotonic
    _tills: dict[tuple[str, str], Till] = field(default_factory=dict)

    async def admit(self, key: ApiKey, scopes: Sequence[str]) -> Standing | None:
        """Count one request of a key on a route that any of `scopes` opens; None: nobody counts it. Raises ProblemError 429.

        A key's own rate covers all its requests together; otherwise each scope's rate covers the routes it opens.
        """
        till = self._till(key, scopes)
        if till is None:
            return None
        if till.left == 0 and self.elapsed() >= till.refused_until:
            async with till.lock:
                if till.left == 0 and self.elapsed() >= till.refused_until:
                    await run_in_threadpool(self._take, till)
        if till.left == 0:
            raise rate_limited(f"{till.rate} is the rate of this key", till.reset_s, till.standing().headers())
        till.left -= 1
        return till.standing()

    def _till(self, key: ApiKey, scopes: Sequence[str]) -> Till | None:
        if key.rate:
            name, text = "key", key.rate
        else:
            name, text = next(((scope, self.of_scope[scope]) for scope in scopes if key.may([scope]) and scope in self.of_scope), ("", ""))
        if not text:
            return None
        till = self._tills.get((key.id, name))
        if till is None:
            till = self._tills[key.id, name] = Till(name, parse_rate(text), key.id)
        return till

    def _take(self, till: Till) -> None:
        """Take a share of the window, or else a single request, or else know for a while that there is none."""
        for cost in dict.fromkeys((max(1, till.rate.amount // SHARES), 1)):
            if self._limiter.hit(till.rate, till.name, till.key_id, cost=cost):
                till.left += cost
                break
        storage = cast(SlidingWindowCounterSupport, self._limiter.storage)
        found = storage.get_sliding_window(till.rate.key_for(till.name, till.key_id), till.rate.get_expiry())
        till.remaining, till.reset_s = left_and_wait(till.rate, *found)
        if till.left == 0:
            till.refused_until = self.elapsed() + min(till.reset_s, REFUSED_S)

    @cached_property
    def _limiter(self) -> SlidingWindowCounterRateLimiter:
        return SlidingWindowCounterRateLimiter(self.open_storage())


def left_and_wait(rate: RateLimitItem, before: int, before_left_s: float, current: int, current_left_s: float) -> tuple[int, float]:
    """Return how many requests a sliding window has left, and in how many seconds it has one more.

    `before`: requests of the window before, of which the part counts that `before_left_s` is of the window's length.
    `current`: those of this one, which is kept for `current_left_s`, a window longer than it lasts.
    """
    window_s = float(rate.get_expiry())
    left = max(rate.amount - current - math.floor(before * before_left_s / window_s), 0)
    if current < rate.amount:
        return left, max(before_left_s - window_s * (rate.amount - current) / before, 0.0) if before else 0.0
    return left, max(current_left_s - window_s, 0.0) + window_s * (1.0 - rate.amount / current)
