"""One of many processes that decide on the same users; imports little, since each of them imports it anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from budgets.redis_ledger import RedisLedger
from lake.decisions import SEND
from lake.ids import shards_of
from scheduler.redis_commit import RedisCommitter
from tests.integration.killed_stores import committed, patient
from tidings.bench_ledger import META, SLOT, Proposal

USERS = [f"user-{number}" for number in range(160)]
BATCHES = 10
MONDAY = 1_699_833_600.0
"""Midnight before Monday, 13 November 2023, UTC: two weeks begin within the days that are decided on."""
DAYS_S, SKEW_S = 16 * 86400.0, 1800.0
REPLAYED, REFUNDED = 0.25, 0.1


@dataclass
class Told:
    """What a process was told: grants that it was promised, by lane, and those of them that it gave back; answers that changed."""

    scheduled: set[int] = field(default_factory=set)
    urgent: set[int] = field(default_factory=set)
    refunded: set[int] = field(default_factory=set)
    changed: int = 0


def decide(start: Callable[[], None], url: str, seed: int) -> Told:
    """Commit batches through every outage: windows by even processes, urgent requests by odd ones, on a clock that is off."""
    client, random, told = patient(url), np.random.default_rng(seed), Told()
    committer, ledger, shards = RedisCommitter(client, META), RedisLedger(client, META.keys), shards_of(USERS, META.shards)
    skew_s = random.uniform(-SKEW_S, SKEW_S)
    start()
    for number in range(BATCHES):
        shard = int(random.choice(np.unique(shards)))
        users = [USERS[row] for row in np.flatnonzero(shards == shard)]
        user = np.repeat(np.arange(len(users), dtype=np.int32), 2)
        # No other process proposes the last of a batch's items, so that what was given back is not granted again.
        item = np.where(random.random(len(user)) < 0.5, random.integers(0, 200, len(user)), 1000 * seed + 1000 + number).astype(np.int32)
        item, channel = item.reshape(-1, 2).cumsum(axis=1).ravel().astype(np.int32), random.integers(0, 2, len(user)).astype(np.uint8)
        slot = {} if seed % 2 else {"slot": SLOT + number}
        now = MONDAY - 86400.0 + number / BATCHES * DAYS_S + skew_s
        batch = Proposal(shard, users, user, item, channel, f"{seed:08x}{number:08x}", **slot).batch(now)
        result = committed(committer, batch)
        if random.random() < REPLAYED:
            again = committed(committer, batch)
            told.changed += int((again.granted != result.granted).sum())
        granted = result.disposition == SEND
        (told.urgent if seed % 2 else told.scheduled).update(batch.grant_id[granted].tolist())
        back = np.flatnonzero(granted & (random.random(len(user)) < REFUNDED))
        ledger.refund([users[code] for code in user[back].tolist()], batch.grant_id[back])
        told.refunded |= set(batch.grant_id[back].tolist())
    return told
