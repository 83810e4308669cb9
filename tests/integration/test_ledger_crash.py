"""The store is killed in the middle of the work and started again: what was granted was enqueued, and nothing else was."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from budgets.redis_ledger import RedisLedger
from lake.decisions import SEND
from lake.embedded import EmbeddedStore
from lake.ids import shards_of
from scheduler.commit import CommitBatch
from scheduler.redis_commit import RedisCommitter
from tests.integration.killed_stores import committed, kill_and_restart, patient, written
from tests.stores import short_folder, undaunted
from tidings.bench_ledger import META, NOW, Proposal, audit, crowd

USERS = [f"user-{number}" for number in range(300)]
BATCHES = 150
DECIDERS = 4
KILLS = 3


def propose(random: np.random.Generator, decision_id: str) -> CommitBatch:
    shards = shards_of(USERS, META.shards)
    shard = int(random.integers(META.shards))
    users = [USERS[row] for row in np.flatnonzero(shards == shard)]
    user = np.repeat(np.arange(len(users), dtype=np.int32), 2)
    item, channel = random.integers(0, 200, len(user)).astype(np.int32), random.integers(0, 2, len(user)).astype(np.uint8)
    return Proposal(shard, users, user, item, channel, decision_id).batch(NOW)


def decide(start: Callable[[], None], url: str, seed: int) -> set[int]:
    """Commit batches through every outage and return the grants that were promised."""
    committer = RedisCommitter(patient(url), META)
    random, promised = np.random.default_rng(seed), set[int]()
    start()
    for number in range(BATCHES):
        proposed = propose(random, f"{seed}-{number}")
        result = committed(committer, proposed)
        promised |= set(proposed.grant_id[result.disposition == SEND].tolist())
    return promised


@pytest.mark.timeout(600)
def test_a_killed_store_neither_overspends_nor_parts_grants_from_messages() -> None:
    with short_folder() as folder:
        promised, killed_at = list[set[int]](), list[int]()
        store = EmbeddedStore(folder).start()
        work = threading.Thread(target=lambda: promised.extend(crowd(decide, [(store.url, seed) for seed in range(DECIDERS)])))
        work.start()
        url = store.url
        try:
            store = kill_and_restart(folder, store, KILLS, killed_at)
            work.join()
            client = undaunted(url)
            granted = set(RedisLedger(client, META.keys).read(USERS).grant_id.tolist())
            assert set().union(*promised) <= granted
            found = audit(url, USERS)
            assert found.pop("granted") == len(granted) > 0
            assert found == {"overspent": 0, "granted_not_enqueued": 0, "enqueued_not_granted": 0, "enqueued_twice": 0}
            assert len(promised) == DECIDERS
            assert written(client) == DECIDERS * BATCHES
            assert len(killed_at) == KILLS
            assert max(killed_at) < DECIDERS * BATCHES
        finally:
            store.stop()
