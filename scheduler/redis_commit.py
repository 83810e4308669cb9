"""The commit on a Redis-protocol server: one script call per batch, all batches of a call in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgpack
import numpy as np
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.retry import Retry

from budgets.ledger import CRITICAL, ENTRY, MAX_ENTRIES, RETENTION_S, ROLLING_S, decision_tags
from lake.decisions import HOLD
from lake.keys import Keys
from lake.meta import Meta
from lake.redis_scripts import Call, run_calls, script_of
from scheduler.commit import (
    ALREADY_SENT,
    CLAIMED,
    GAVE_WAY,
    LEFT_OUT,
    NO_SLOT,
    REPLACED,
    SPENT,
    CommitBatch,
    CommitResult,
    Evicted,
    NotDurableError,
    all_stale,
)
from scheduler.held import MAX_HELD
from scheduler.lease import shard_lease
from scheduler.outgoing import Joined, pack_messages

KEEP_S = int(RETENTION_S) + 86400
REPLY_S = 60
"""How long a batch's answer is kept for whoever lost it."""

DURABLE_TIMEOUT_MS = 2000
ATTEMPTS = 2
"""A broken connection is tried once more: a repeat finds its own answer. A store that is slow is the caller's to know."""

_OUTCOMES = [bytes(outcome) for outcome in (ALREADY_SENT, SPENT, REPLACED, CLAIMED, GAVE_WAY, LEFT_OUT)]
_LIMITS = [ROLLING_S, RETENTION_S, MAX_ENTRIES, MAX_HELD, KEEP_S, REPLY_S]


@dataclass(frozen=True)
class RedisCommitter:
    """The committer on one server. `durable`: wait until the append-only file on its disk holds the commit."""

    client: Redis
    meta: Meta
    durable: bool = True

    def commit(self, batches: Sequence[CommitBatch]) -> list[CommitResult]:
        """See Committer."""
        if not batches:
            return []
        packed = pack_batches(batches, self.meta)
        calls = [self._call(batch, argument) for batch, argument in zip(batches, packed, strict=True)]
        retry = Retry(NoBackoff(), ATTEMPTS - 1, supported_errors=(StoreConnectionError,))
        replies = retry.call_with_retry(lambda: self._run(calls), lambda _: None)
        return [_result(batch, reply) for batch, reply in zip(batches, replies, strict=True)]

    @cached_property
    def _script(self) -> Script:
        return script_of(self.client, "scheduler", "commit")

    def _call(self, batch: CommitBatch, packed: bytes) -> Call:
        """Return the script's keys and arguments for a batch."""
        keys, shard = self.meta.keys, batch.shard
        names = [keys.of_shard(kind, shard) for kind in (Keys.DUE, Keys.OUTBOX, Keys.DECISIONS, f"commit:{batch.batch_id.hex()}")]
        return [names[0], shard_lease(shard), *names[1:]], [packed, batch.log_blob]

    def _run(self, calls: list[Call]) -> list[bytes]:
        """Run the calls and wait for the disk: WAITAOF waits for the writes of its own connection, so it rides behind."""
        if not self.durable:
            return run_calls(self.client, self._script, calls)
        *replies, written = run_calls(self.client, self._script, calls, lambda pipe: pipe.waitaof(1, 0, DURABLE_TIMEOUT_MS))
        if written[0] < 1:
            raise NotDurableError(f"the store has not written a commit to its disk within {DURABLE_TIMEOUT_MS} ms")
        return replies


def pack_batches(batches: Sequence[CommitBatch], meta: Meta) -> list[bytes]:
    """Return each batch as the one argument that lua/commit.lua unpacks."""
    rows = Joined(batches)
    entries, size = _entries(rows).tobytes(), ENTRY.itemsize
    proposals = np.stack([rows.column(name) for name in ("budget", "disposition", "reason")], axis=1).astype(np.uint8).tobytes()
    return [
        pack_batch(batch, meta, entries[size * span.start : size * span.stop], proposals[3 * span.start : 3 * span.stop], messages)
        for batch, span, messages in zip(batches, rows.spans, pack_messages(batches, meta.channels), strict=True)
    ]


def pack_batch(batch: CommitBatch, meta: Meta, entries: bytes, proposals: bytes, messages: list[bytes]) -> bytes:
    """Return one batch packed, given its rows' ledger records, proposed outcomes and messages; the script counts from 1."""
    keys, shard, hold = meta.keys, batch.shard, batch.disposition == HOLD
    held_users = {*batch.user[hold].tolist(), *batch.released.user.tolist()}
    parts = [
        batch.fence,
        batch.now,
        batch.users,
        batch.window_id.astype("<i4").tobytes(),
        batch.slot.tolist() if np.any(batch.slot != NO_SLOT) else [],
        batch.next_slot.tolist() if np.any(batch.next_slot != NO_SLOT) else [],
        batch.rows_per_user.tolist(),
        entries,
        proposals,
        messages,
        _holds(batch, np.flatnonzero(hold)),
        _releases(batch),
        [user + 1 for user in sorted(held_users)],
        keys.of_shard(Keys.LEDGER, shard) + ":",
        keys.of_shard(Keys.HELD, shard) + ":",
        [*_OUTCOMES, HOLD],
        _LIMITS,
        _digests(batch),
    ]
    return bytes(msgpack.packb(parts, use_bin_type=False))


def _entries(rows: Joined) -> np.ndarray[Any, np.dtype[np.void]]:
    """The ledger records that the rows will leave where they are granted."""
    entries = np.zeros(len(rows), ENTRY)
    decisions, request = rows.coded("decision_ids", "request")
    entries["at"], entries["decision"] = rows.now, decision_tags(decisions)[request]
    entries["flags"] = np.where(rows.column("critical"), CRITICAL, 0)
    for name in ("channel", "version", "grant_id", "entity"):
        entries[name] = rows.column(name)
    return entries


def _holds(batch: CommitBatch, rows: np.ndarray[Any, np.dtype[np.intp]]) -> dict[int, list[str | int | float]]:
    columns = (batch.item[rows], batch.channel[rows], batch.value[rows], batch.expires_at[rows])
    return {
        row + 1: [batch.items[item], channel, value, expires_at]
        for row, item, channel, value, expires_at in zip(rows.tolist(), *(column.tolist() for column in columns), strict=True)
    }


def _releases(batch: CommitBatch) -> dict[int, list[tuple[str, int, int]]]:
    """Return by user the item, the channel and the proposed row, 0: none, of each held row to release."""
    rows: dict[int, list[tuple[str, int, int]]] = {}
    for (user, item, channel), row in batch.released_rows.items():
        rows.setdefault(user + 1, []).append((batch.items[item], channel, row + 1))
    return rows


def _digests(batch: CommitBatch) -> dict[int, list[object]]:
    """Return by lead its rule, and of each rider its row, its item and its grant."""
    return {
        lead + 1: [by, [[row + 1, batch.items[batch.item[row]], f"{int(batch.grant_id[row]):016x}"] for row in rows]]
        for lead, (by, rows) in batch.digests.riders().items()
    }


def _result(batch: CommitBatch, reply: bytes) -> CommitResult:
    if not reply:
        return all_stale(batch)
    status, final, evicted = msgpack.unpackb(reply, raw=True)
    outcome = np.frombuffer(final, np.uint8).reshape(-1, 2)
    return CommitResult(
        status=np.frombuffer(status, np.uint8),
        disposition=outcome[:, 0].copy(),
        reason=outcome[:, 1].copy(),
        evicted=[Evicted(batch.users[user - 1], item.decode(), int(channel), float(value)) for user, item, channel, value in evicted or ()],
    )
