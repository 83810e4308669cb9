"""What every kind of lease promises."""

from __future__ import annotations

import pytest

from lake.keys import LEADER, Keys
from scheduler.lease import Leases, MemoryLeases, shard_lease
from scheduler.redis_lease import RedisLeases

NOW = 1_700_000_000.25


@pytest.fixture(params=["memory", "redis"])
def leases(request: pytest.FixtureRequest) -> Leases:
    if request.param == "memory":
        return MemoryLeases()
    return RedisLeases(request.getfixturevalue("redis_client"))


def test_one_owner_holds_a_lease_at_a_time(leases: Leases) -> None:
    assert leases.acquire(LEADER, "a", NOW, 10) == 1
    assert leases.acquire(LEADER, "b", NOW + 9.75, 10) is None
    assert leases.acquire(shard_lease(3), "b", NOW, 10) == 1


def test_an_owner_keeps_its_token_while_it_holds_the_lease(leases: Leases) -> None:
    assert leases.acquire(LEADER, "a", NOW, 10) == 1
    assert leases.acquire(LEADER, "a", NOW + 5, 10) == 1
    assert leases.acquire(LEADER, "b", NOW + 14, 10) is None


def test_an_expired_lease_changes_hands_under_a_higher_token(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert leases.acquire(LEADER, "b", NOW + 10, 10) == 2
    assert not leases.renew(LEADER, "a", 1, NOW + 11, 10)
    assert leases.token(LEADER) == 2


def test_an_owner_whose_lease_expired_gets_a_new_token(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert not leases.renew(LEADER, "a", 1, NOW + 10, 10)
    assert leases.acquire(LEADER, "a", NOW + 10, 10) == 2


def test_renewing_extends_a_lease(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert leases.renew(LEADER, "a", 1, NOW + 9, 10)
    assert leases.acquire(LEADER, "b", NOW + 18, 10) is None


def test_a_clock_that_is_set_back_lengthens_no_lease_of_the_dead(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert leases.acquire(LEADER, "b", NOW - 60, 10) == 2
    assert not leases.renew(LEADER, "a", 1, NOW - 59, 10)


def test_who_lives_keeps_a_lease_when_the_clock_is_set_back(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert leases.renew(LEADER, "a", 1, NOW - 60, 10)
    assert leases.acquire(LEADER, "a", NOW - 60, 10) == 1
    assert leases.acquire(LEADER, "b", NOW - 51, 10) is None


def test_who_asks_at_once_and_comes_second_takes_nothing(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert leases.acquire(LEADER, "b", NOW - 0.5, 10) is None


def test_a_released_lease_is_free_at_once_and_its_token_is_not_used_again(leases: Leases) -> None:
    leases.acquire(LEADER, "a", NOW, 10)
    assert not leases.release(LEADER, "b", 1)
    assert not leases.release(LEADER, "a", 7)
    assert leases.release(LEADER, "a", 1)
    assert not leases.release(LEADER, "a", 1)
    assert leases.acquire(LEADER, "b", NOW + 1, 10) == 2


def test_a_lease_that_was_never_taken_has_no_token(leases: Leases) -> None:
    assert leases.token(shard_lease(0)) == 0
    assert not leases.renew(shard_lease(0), "a", 0, NOW, 10)
    assert not leases.release(shard_lease(0), "a", 0)


def test_a_shards_lease_lives_where_the_commit_looks_for_it() -> None:
    assert shard_lease(5) == Keys(16).of_shard(Keys.LEASE, 5)
