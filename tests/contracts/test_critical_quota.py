"""What every critical quota promises: it is never exceeded, and a repeat costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from redis import Redis

from budgets.critical_quota import DAY_S, CriticalQuota, MemoryCriticalQuota, uses_of
from budgets.redis_critical_quota import RedisCriticalQuota
from lake.keys import Keys

NOW = 1_700_000_000.0
QUOTAS: dict[str, Callable[[Redis], CriticalQuota]] = {
    "memory": lambda _: MemoryCriticalQuota(),
    "redis": lambda client: RedisCriticalQuota(client, Keys(4)),
}


@pytest.fixture(params=QUOTAS)
def quota(request: pytest.FixtureRequest, redis_client: Redis) -> CriticalQuota:
    return QUOTAS[request.param](redis_client)


def uses(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(numbers, np.uint64)


def test_the_first_ones_in_order_are_admitted_and_the_surplus_is_not(quota: CriticalQuota) -> None:
    found = quota.spend("k", uses(1, 2, 2**64 - 1, 4), 3, NOW)
    assert found.admitted.tolist() == found.charged.tolist() == [True, True, True, False]
    assert quota.spent("k", NOW) == 3


def test_a_repeat_is_admitted_again_and_costs_nothing_even_where_nothing_is_left(quota: CriticalQuota) -> None:
    quota.spend("k", uses(1, 2), 2, NOW)
    again = quota.spend("k", uses(1, 2, 3), 2, NOW)
    assert again.admitted.tolist() == [True, True, False]
    assert not again.charged.any()
    assert quota.spent("k", NOW) == 2


def test_keys_and_days_are_apart_and_a_repeat_after_midnight_costs_nothing(quota: CriticalQuota) -> None:
    quota.spend("k", uses(1), 1, NOW)
    assert quota.spend("other", uses(1), 1, NOW).charged.tolist() == [True]
    midnight = NOW - NOW % DAY_S + DAY_S
    assert quota.spend("k", uses(2), 1, midnight - 1).admitted.tolist() == [False]
    late = quota.spend("k", uses(1, 2), 1, midnight)
    assert (late.admitted.tolist(), late.charged.tolist()) == ([True, True], [False, True])


def test_what_is_given_back_may_be_spent_again_and_what_was_never_spent_is_no_gain(quota: CriticalQuota) -> None:
    quota.spend("k", uses(1, 2), 2, NOW)
    quota.give_back("k", uses(2, 9), NOW)
    quota.give_back("k", uses(2), NOW)
    assert quota.spent("k", NOW) == 1
    assert quota.spend("k", uses(3, 4), 2, NOW).admitted.tolist() == [True, False]


def test_a_quota_of_nothing_admits_nothing_and_nothing_costs_nothing(quota: CriticalQuota) -> None:
    assert quota.spend("k", uses(1), 0, NOW).admitted.tolist() == [False]
    assert quota.spend("k", uses(), 5, NOW).admitted.tolist() == []
    quota.give_back("k", uses(), NOW)


def test_more_uses_than_one_script_takes_keep_their_order(quota: CriticalQuota) -> None:
    found = quota.spend("k", np.arange(2_500, dtype=np.uint64), 2_001, NOW)
    assert found.admitted.tolist() == [True] * 2_001 + [False] * 499


def test_fifty_who_spend_at_once_never_exceed_it_and_leave_nothing_unspent(quota: CriticalQuota) -> None:
    def spend(spender: int) -> int:
        return int(quota.spend("k", np.arange(7 * spender, 7 * spender + 7, dtype=np.uint64), 100, NOW).charged.sum())

    with ThreadPoolExecutor(50) as threads:
        charged = list(threads.map(spend, range(50)))
    assert sum(charged) == quota.spent("k", NOW) == 100


def test_fifty_repeats_of_one_decision_at_once_pay_once(quota: CriticalQuota) -> None:
    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda _: quota.spend("k", uses(1, 2, 3), 3, NOW), range(50)))
    assert sum(int(each.charged.sum()) for each in found) == 3
    assert all(each.admitted.all() for each in found)


def test_a_use_is_of_a_grant_and_a_decision() -> None:
    grants, request = uses(1, 1, 2), np.array([0, 1, 0])
    found = uses_of(grants, ["a", "b"], request)
    assert len(set(found.tolist())) == 3
    assert found.tolist() == uses_of(grants, ["a", "b"], request).tolist()
