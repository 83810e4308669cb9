"""Alarms in memory and on a server: what is wrong is told until it is cleared, or nobody has repeated it for long."""

from __future__ import annotations

import pytest
from redis import Redis

from lake.alarms import FRESH_S, Alarm, Alarms, MemoryAlarms
from lake.redis_alarms import RedisAlarms


@pytest.fixture(params=["memory", "redis"])
def alarms(request: pytest.FixtureRequest) -> Alarms:
    if request.param == "memory":
        return MemoryAlarms()
    client: Redis = request.getfixturevalue("redis_client")
    return RedisAlarms(client)


def test_an_alarm_rings_until_it_is_cleared_and_repeating_it_replaces_it(alarms: Alarms) -> None:
    assert alarms.ringing(5.0) == {}
    alarms.ring("guard b", Alarm("likeness is missing", 5.0, 5.0))
    alarms.ring("guard a", Alarm("scores moved", 6.0, 6.0))
    again = Alarm("likeness is missing", 5.0, 9.0, b"\x00what to do")
    alarms.ring("guard b", again)
    assert alarms.ringing(9.0) == {"guard a": Alarm("scores moved", 6.0, 6.0), "guard b": again}
    alarms.clear("guard b")
    alarms.clear("nobody")
    assert list(alarms.ringing(9.0)) == ["guard a"]


def test_an_alarm_that_nobody_repeats_is_no_longer_believed(alarms: Alarms) -> None:
    alarms.ring("guard a", Alarm("scores moved", 6.0, 6.0))
    assert list(alarms.ringing(6.0 + FRESH_S)) == ["guard a"]
    assert alarms.ringing(6.1 + FRESH_S) == {}
