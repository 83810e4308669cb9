"""What every store of half-lives promises."""

from __future__ import annotations

import pytest

from scheduler.half_lives import HalfLives, MemoryHalfLives
from scheduler.redis_half_lives import RedisHalfLives


@pytest.fixture(params=["memory", "redis"])
def half_lives(request: pytest.FixtureRequest) -> HalfLives:
    if request.param == "memory":
        return MemoryHalfLives()
    return RedisHalfLives(request.getfixturevalue("redis_client"))


def test_half_lives_are_replaced_as_a_whole_and_come_back_as_they_were(half_lives: HalfLives) -> None:
    assert half_lives.read() == {}
    half_lives.write({"live": 1200.125, "article": 7e5})
    half_lives.write({"live": 1800.5, "Nachricht ü": 86400.0})
    assert half_lives.read() == {"live": 1800.5, "Nachricht ü": 86400.0}
    half_lives.write({})
    assert half_lives.read() == {}
