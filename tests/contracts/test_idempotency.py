"""What every store of idempotency records promises."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from gateway.idempotency import KEPT_S, LEASE_S, IdempotencyStore, MemoryIdempotency
from gateway.redis_idempotency import RedisIdempotency
from lake.keys import Keys

NOW = 1_700_000_000.25
STORES: dict[str, Callable[[Redis], IdempotencyStore]] = {
    "memory": lambda _: MemoryIdempotency(),
    "redis": lambda client: RedisIdempotency(client, Keys(4)),
}
ANSWER = b'{"results":[]}' * 100 + bytes(range(256))


@pytest.fixture(params=STORES)
def records(request: pytest.FixtureRequest, redis_client: Redis) -> IdempotencyStore:
    return STORES[request.param](redis_client)


def test_the_first_decides_and_the_next_ones_wait_then_get_its_answer(records: IdempotencyStore) -> None:
    assert records.begin("k:1", "h", NOW).kind == "decide"
    assert records.begin("k:1", "h", NOW + 1).kind == "wait"
    assert records.finish("k:1", "h", ANSWER, NOW + 2) == ANSWER
    turn = records.begin("k:1", "h", NOW + 3)
    assert (turn.kind, turn.answer) == ("answered", ANSWER)


def test_another_body_is_a_mismatch_while_pending_and_after(records: IdempotencyStore) -> None:
    records.begin("k", "h", NOW)
    assert records.begin("k", "other", NOW).kind == "mismatch"
    records.finish("k", "h", ANSWER, NOW)
    assert records.begin("k", "other", NOW).kind == "mismatch"


def test_other_keys_are_other_records(records: IdempotencyStore) -> None:
    assert records.begin("a", "h", NOW).kind == "decide"
    assert records.begin("b", "h", NOW).kind == "decide"


def test_a_lease_that_lapsed_passes_to_the_next(records: IdempotencyStore) -> None:
    records.begin("k", "h", NOW)
    assert records.begin("k", "h", NOW + LEASE_S - 0.01).kind == "wait"
    assert records.begin("k", "h", NOW + LEASE_S).kind == "decide"
    assert records.begin("k", "h", NOW + LEASE_S + 1).kind == "wait"


def test_the_answer_kept_first_is_everyones(records: IdempotencyStore) -> None:
    records.begin("k", "h", NOW)
    records.begin("k", "h", NOW + LEASE_S)
    assert records.finish("k", "h", b"second took over", NOW + LEASE_S + 1) == b"second took over"
    assert records.finish("k", "h", b"first came late", NOW + LEASE_S + 2) == b"second took over"


def test_an_abandoned_request_is_decided_by_the_next_with_the_same_body(records: IdempotencyStore) -> None:
    records.begin("k", "h", NOW)
    records.abandon("k", "other")
    assert records.begin("k", "h", NOW).kind == "wait"
    records.abandon("k", "h")
    assert records.begin("k", "other", NOW).kind == "mismatch"
    assert records.begin("k", "h", NOW).kind == "decide"


def test_abandoning_changes_nothing_once_there_is_an_answer_or_no_record(records: IdempotencyStore) -> None:
    records.abandon("k", "h")
    records.begin("k", "h", NOW)
    records.finish("k", "h", ANSWER, NOW)
    records.abandon("k", "h")
    assert records.begin("k", "h", NOW).answer == ANSWER


def test_a_record_lasts_a_day_by_the_given_time(records: IdempotencyStore) -> None:
    records.begin("k", "h", NOW)
    records.finish("k", "h", ANSWER, NOW)
    assert records.begin("k", "h", NOW + KEPT_S - 1).kind == "answered"
    assert records.begin("k", "other", NOW + KEPT_S).kind == "decide"


def test_of_fifty_who_begin_at_once_exactly_one_decides(records: IdempotencyStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        kinds = list(threads.map(lambda _: records.begin("k", "h", NOW).kind, range(50)))
    assert sorted(set(kinds)) == ["decide", "wait"]
    assert kinds.count("decide") == 1


def test_a_record_lives_at_its_own_shard_and_is_collected(redis_client: Redis) -> None:
    RedisIdempotency(redis_client, Keys(4)).begin("k", "h", 1.0)
    (name,) = redis_client.keys("*")
    assert name == Keys(4).of_user(Keys.IDEMPOTENCY, "k").encode()
    assert KEPT_S < redis_client.ttl(name) <= KEPT_S + 60
