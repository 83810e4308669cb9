"""Everything a commit touches, in memory or on a server, behind one set of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from budgets.ledger import Ledger
from budgets.redis_ledger import RedisLedger
from lake.decision_log import Entry
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.redis_decision_log import RedisDecisionStream
from scheduler.commit import Committer
from scheduler.due import DueIndex, MemoryDueIndex
from scheduler.held import HeldStore
from scheduler.lease import Leases
from scheduler.memory_commit import MemoryCommitter
from scheduler.redis_commit import RedisCommitter
from scheduler.redis_due import RedisDueIndex
from scheduler.redis_held import RedisHeldStore
from scheduler.redis_lease import RedisLeases


@dataclass(frozen=True)
class Rig:
    """A committer and the stores it writes. `outbox`, `log`: what a shard's streams hold."""

    committer: Committer
    ledger: Ledger
    due: DueIndex
    leases: Leases
    held: HeldStore
    outbox: Callable[[int], list[Message]]
    log: Callable[[int], list[Entry]]


def memory_rig(meta: Meta) -> Rig:
    """Return a rig in memory."""
    stores = MemoryCommitter(meta, MemoryDueIndex(meta.shards))
    return Rig(
        committer=stores,
        ledger=stores.ledger,
        due=stores.due,
        leases=stores.leases,
        held=stores.held,
        outbox=lambda shard: stores.outbox.get(shard, []),
        log=lambda shard: stores.log.read(shard, 10_000),
    )


def redis_rig(meta: Meta, client: Redis) -> Rig:
    """Return a rig on a server."""
    keys = meta.keys
    return Rig(
        committer=RedisCommitter(client, meta),
        ledger=RedisLedger(client, keys),
        due=RedisDueIndex(client, keys),
        leases=RedisLeases(client),
        held=RedisHeldStore(client, keys),
        outbox=lambda shard: read_outbox(client, keys, shard),
        log=lambda shard: RedisDecisionStream(client, keys).read(shard, 10_000),
    )


def read_outbox(client: Redis, keys: Keys, shard: int) -> list[Message]:
    """Return the messages of a shard's outbox stream, oldest first."""
    entries: Any = client.xrange(keys.of_shard(Keys.OUTBOX, shard))
    return [Message.unpack(fields[FIELD.encode()]) for _, fields in entries]
