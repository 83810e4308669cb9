"""Rates over windows in memory and in the store: never much more than the limit, whoever and however many hand it out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from limits import RateLimitItem
from limits.storage import MemoryStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis

from gateway.api_keys import ApiKey
from gateway.problems import ProblemError
from gateway.rates import SHARES, Rates, left_and_wait, parse_rate
from gateway.redis_rates import redis_windows
from lake.errors import InputError
from tests.integration.waiting import LONG_S, early_in, until

WINDOWS: dict[str, Callable[[Redis], Storage]] = {"memory": lambda _: MemoryStorage(), "redis": redis_windows}


@pytest.fixture(params=WINDOWS)
def windows(request: pytest.FixtureRequest, redis_client: Redis) -> Storage:
    """A storage, at a moment when neither a minute nor an hour ends during the test."""
    early_in(60.0, 10.0)
    return WINDOWS[request.param](redis_client)


def key_of(name: str, rate: str = "", scopes: tuple[str, ...] = ("urgent",)) -> ApiKey:
    return ApiKey(name, "d", scopes, "", 0.0, rate=rate)


async def admitted(rates: Rates, key: ApiKey, asked: int) -> int:
    """Return how many of some requests at once get in."""

    async def ask() -> bool:
        try:
            await rates.admit(key, ["urgent"])
        except ProblemError:
            return False
        return True

    return sum(await asyncio.gather(*(ask() for _ in range(asked))))


async def test_a_key_gets_in_as_often_as_its_rate_says_and_no_oftener(windows: Storage) -> None:
    rates = Rates(open_storage=lambda: windows)
    assert await admitted(rates, key_of("k", "40/hour"), 100) == 40
    assert await admitted(rates, key_of("other", "3/hour"), 10) == 3


def test_a_key_gets_in_again_when_its_window_has_passed(windows: Storage) -> None:
    def get_in(times: int) -> int:
        return asyncio.run(admitted(Rates(open_storage=lambda: windows), key_of("k", "3/second"), times))

    assert get_in(20) >= 3
    until(lambda: get_in(1), timeout_s=LONG_S)


async def test_gateways_share_the_window(windows: Storage) -> None:
    """Ten hand out one limit: what they have taken together is the limit, and what each may hold back is a share."""
    ten = [Rates(open_storage=lambda: windows) for _ in range(10)]
    got = [await admitted(rates, key_of("k", "100/hour"), 20) for rates in ten]
    assert sum(got) == 100


async def test_a_gateway_asks_the_store_once_per_share_and_not_for_every_refusal(windows: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(open_storage=lambda: windows, elapsed=lambda: 0.0)
    taken: list[int] = []
    hit = SlidingWindowCounterRateLimiter.hit

    def counted(self: SlidingWindowCounterRateLimiter, item: RateLimitItem, *names: str, cost: int = 1) -> bool:
        taken.append(cost)
        return hit(self, item, *names, cost=cost)

    monkeypatch.setattr(SlidingWindowCounterRateLimiter, "hit", counted)
    assert await admitted(rates, key_of("k", "1000/hour"), 950) == 950
    assert taken == [1000 // SHARES] * 19
    assert await admitted(rates, key_of("k", "1000/hour"), 500) == 50
    assert taken[19:] == [50, 50, 1]


async def test_a_scopes_rate_counts_each_key_that_has_none_of_its_own(windows: Storage) -> None:
    rates = Rates({"urgent": "2/hour"}, lambda: windows)
    assert await admitted(rates, key_of("a"), 5) == 2
    assert await admitted(rates, key_of("b"), 5) == 2
    assert await admitted(rates, key_of("c", "4/hour"), 5) == 4
    assert await rates.admit(key_of("a", scopes=("events",)), ["events"]) is None


async def test_a_refusal_tells_the_rate_and_when_to_come_again(windows: Storage) -> None:
    rates = Rates(open_storage=lambda: windows)
    first = await rates.admit(key_of("k", "2/minute"), ["urgent"])
    assert first is not None
    assert first.headers()["RateLimit-Policy"] == '"key";q=2;w=60'
    assert first.headers()["RateLimit"].startswith('"key";r=1;t=')
    await rates.admit(key_of("k", "2/minute"), ["urgent"])
    with pytest.raises(ProblemError, match="2 per 1 minute") as refused:
        await rates.admit(key_of("k", "2/minute"), ["urgent"])
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    assert refused.value.headers["RateLimit"].startswith('"key";r=0;t=')


@pytest.mark.parametrize("text", ["", "often", "0/minute", "-1/minute", "5", "1/fortnight", "5/minute;6/hour x"])
def test_what_is_no_rate_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(InputError, match="100/minute"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("found", "left", "wait_s"),
    [
        ((0, 0.0, 0, 0.0), 10, 0.0),
        ((0, 0.0, 4, 90.0), 6, 0.0),
        ((0, 0.0, 10, 90.0), 0, 30.0),  # the window ends in 30 s, and then its first request fades
        ((10, 30.0, 5, 90.0), 0, 0.0),
        ((10, 45.0, 5, 105.0), 0, 15.0),  # 7.5 of before count, 5 must have gone
        ((0, 0.0, 20, 60.0), 0, 30.0),
    ],
)
def test_the_wait_ends_when_the_window_has_one_more(found: tuple[int, float, int, float], left: int, wait_s: float) -> None:
    got, wait = left_and_wait(parse_rate("10/minute"), *found)
    assert got == left
    assert wait == pytest.approx(wait_s)
