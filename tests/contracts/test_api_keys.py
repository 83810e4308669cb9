"""What every store of API keys promises."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from gateway.api_keys import ApiKey, ApiKeyStore, MemoryApiKeys, new_key
from gateway.redis_api_keys import RedisApiKeys

NOW = 1_700_000_000.0
STORES: dict[str, Callable[[Redis], ApiKeyStore]] = {"memory": lambda _: MemoryApiKeys(), "redis": RedisApiKeys}


@pytest.fixture(params=STORES)
def keys(request: pytest.FixtureRequest, redis_client: Redis) -> ApiKeyStore:
    return STORES[request.param](redis_client)


def test_a_key_reads_back_as_put(keys: ApiKeyStore) -> None:
    key, _ = new_key(("urgent", "events"), NOW, name="shop \u2713", lifetime_s=60)
    keys.put(key)
    assert keys.get(key.id) == key
    assert keys.get("another") is None


def test_putting_a_key_again_replaces_it(keys: ApiKeyStore) -> None:
    keys.put(ApiKey("a", "d", ("urgent",), "", NOW))
    keys.put(ApiKey("a", "d", ("events",), "", NOW))
    assert [key.scopes for key in keys.all()] == [("events",)]


def test_keys_are_listed_oldest_first(keys: ApiKeyStore) -> None:
    for age in (2, 3, 1):
        keys.put(ApiKey(f"k{age}", "d", ("read",), "", NOW - age))
    assert [key.id for key in keys.all()] == ["k3", "k2", "k1"]


def test_a_revoked_key_is_gone(keys: ApiKeyStore) -> None:
    keys.put(ApiKey("a", "d", ("urgent",), "", NOW))
    assert keys.revoke("a")
    assert not keys.revoke("a")
    assert keys.get("a") is None
    assert keys.all() == []


def test_of_many_who_revoke_at_once_exactly_one_did(keys: ApiKeyStore) -> None:
    for round_ in range(5):
        keys.put(ApiKey("a", "d", ("login",), "", NOW + round_))
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(lambda _: keys.revoke("a"), range(8))) == 1
