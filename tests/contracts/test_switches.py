"""Switches in memory and on a server: what is off is told with why and since when, and everybody hears of it within a second."""

from __future__ import annotations

import pytest
from redis import Redis

from lake.errors import InputError
from lake.meta import Meta
from lake.redis_switches import RedisSwitches
from lake.switches import FRESH_S, MemorySwitches, Off, Switches, Watch, name_of

META = Meta(shards=4)


@pytest.fixture(params=["memory", "redis"])
def switches(request: pytest.FixtureRequest) -> Switches:
    if request.param == "memory":
        return MemorySwitches()
    client: Redis = request.getfixturevalue("redis_client")
    return RedisSwitches(client)


def test_what_is_off_is_told_until_it_is_on(switches: Switches) -> None:
    assert switches.off() == {}
    switches.turn_off("channel:push", "the vendor is down", 5.0)
    switches.turn_off("kind:post", "", 6.0)
    switches.turn_off("channel:push", "still down", 7.0)
    assert switches.off() == {"channel:push": Off("still down", 7.0), "kind:post": Off("", 6.0)}
    assert switches.turn_on("channel:push")
    assert not switches.turn_on("channel:push")
    assert list(switches.off()) == ["kind:post"]


def test_a_watch_reads_again_within_a_second_and_not_each_time(switches: Switches) -> None:
    now = [100.0]
    watch = Watch(switches, elapsed=lambda: now[0])
    assert watch() == frozenset()
    switches.turn_off("everything", "", 1.0)
    now[0] += FRESH_S / 2
    assert watch() == frozenset()
    now[0] += FRESH_S / 2
    assert watch() == {"everything"}
    assert FRESH_S < 1


@pytest.mark.parametrize("name", ["everything", "lane:urgent", "lane:scheduled", "channel:in_app", "kind:anything at all"])
def test_a_thing_that_can_be_switched_is_named_as_it_is(name: str) -> None:
    assert name_of(name, META) == name


@pytest.mark.parametrize(
    ("name", "says"), [("lane:slow", "scheduled, urgent"), ("channel:fax", "in_app"), ("push", "channel:CHANNEL"), ("kind:", "kind:KIND")]
)
def test_what_cannot_be_switched_is_refused_with_what_can(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        name_of(name, META)
