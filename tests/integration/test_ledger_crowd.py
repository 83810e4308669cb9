"""Many processes decide about the same users at once, and nobody gets more than their budget."""

from __future__ import annotations

import pytest
from redis import Redis

from tidings.bench_ledger import contention, throughput


@pytest.mark.timeout(600)
def test_a_crowd_of_deciders_overspends_no_budget_and_loses_no_grant(redis_client: Redis, embedded_store: str) -> None:
    found = contention(embedded_store, processes=16, decisions=8000, users=200)
    assert found.pop("granted") > 200
    assert found == {
        "decisions": 8000,
        "processes": 16,
        "overspent": 0,
        "granted_not_enqueued": 0,
        "enqueued_not_granted": 0,
        "enqueued_twice": 0,
    }


@pytest.mark.timeout(600)
def test_windows_committed_by_several_clients_grant_every_user_once(redis_client: Redis, embedded_store: str) -> None:
    figures = throughput(embedded_store, users=1200, rounds=2, clients=2)
    assert figures["users_per_s"] > 0
    assert figures["store_cpu_us_per_user"] > 0
