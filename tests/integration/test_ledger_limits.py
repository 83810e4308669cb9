"""Everything at once: 64 processes of both lanes with clocks of their own, across weeks, with replays and refunds, and the store killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from redis import Redis

from budgets.ledger import ROLLING_S
from budgets.redis_ledger import RedisLedger
from lake.embedded import EmbeddedStore
from lake.keys import Keys
from lake.messages import FIELD, Message
from scheduler.redis_due import RedisDueIndex
from tests.integration.deciders import BATCHES, USERS, Told, decide
from tests.integration.killed_stores import kill_and_restart, written
from tests.stores import short_folder, undaunted
from tidings.bench_ledger import BUDGET, META, SLOT, crowd

PROCESSES, KILLS = 64, 2


def most_in_a_week(client: Redis) -> int:
    """Return the most grants that any user has on any channel within any 7 days."""
    columns = RedisLedger(client, META.keys).read(USERS)
    most = 0
    for key in np.unique(columns.user.astype(np.int64) * 256 + columns.channel):
        at = np.sort(columns.at[columns.user.astype(np.int64) * 256 + columns.channel == key])
        most = max(most, int((np.searchsorted(at, at + ROLLING_S) - np.arange(len(at))).max()))
    return most


def enqueued(client: Redis) -> Iterator[int]:
    """Yield the grant of each message on its way."""
    for shard in range(META.shards):
        entries: Any = client.xrange(META.keys.of_shard(Keys.OUTBOX, shard))
        for _, fields in entries:
            yield int(Message.unpack(fields[FIELD.encode()]).grant_id, 16)


@pytest.mark.timeout(600)
def test_64_processes_of_both_lanes_with_skewed_clocks_replays_and_refunds_keep_every_budget_though_the_store_is_killed() -> None:
    with short_folder() as folder:
        told, killed_at = list[Told](), list[int]()
        store = EmbeddedStore(folder).start()
        url = store.url
        RedisDueIndex(undaunted(url), META.keys).enroll(USERS, np.full(len(USERS), SLOT))
        work = threading.Thread(target=lambda: told.extend(crowd(decide, [(url, seed) for seed in range(PROCESSES)])))
        work.start()
        try:
            store = kill_and_restart(folder, store, KILLS, killed_at, apart=150)
            work.join()
            client = undaunted(url)
            assert len(told) == PROCESSES
            granted = set(RedisLedger(client, META.keys).read(USERS).grant_id.tolist())
            messages, refunded = list(enqueued(client)), set().union(*(each.refunded for each in told))
            promised = set().union(*(each.scheduled | each.urgent for each in told))
            assert most_in_a_week(client) == BUDGET
            assert granted - set(messages) == set(), "granted but not enqueued"
            assert set(messages) - granted - refunded == set(), "enqueued but not granted"
            assert promised - refunded <= granted
            assert all(any(getattr(each, kind) for each in told) for kind in ("scheduled", "urgent", "refunded"))
            assert sum(each.changed for each in told) == 0
            assert written(client) == PROCESSES * BATCHES
            assert len(killed_at) == KILLS
            assert max(killed_at) < PROCESSES * BATCHES
        finally:
            store.stop()
