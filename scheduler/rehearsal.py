"""The commit of a dry run: what the store would have said, on a copy of its ledgers, and one log entry instead of anything else."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from budgets.ledger import Account, Grant, LedgerColumns, MemoryLedger
from lake.meta import Meta
from scheduler.commit import CommitBatch, CommitResult, Committer, Digests, Released
from scheduler.due import MemoryDueIndex
from scheduler.memory_commit import MemoryCommitter

_PER_USER = ("window_id", "slot", "next_slot")
_PER_BATCH = ("shard", "lane", "now", "users", "items", "sources", "decision_ids", "model_id")
_NOT_PER_ROW = {*_PER_USER, *_PER_BATCH, "fence", "released", "digests", "log_blob", "batch_id"}
_PER_ROW = tuple(column.name for column in fields(CommitBatch) if column.name not in _NOT_PER_ROW)


@dataclass(frozen=True)
class Rehearsal:
    """A committer that settles batches as the real one would, on the ledgers as they were read, and writes nothing.

    `users`: those of the decision, whose grants are in `ledger`. What only the store knows is not looked at: which rows are held already,
    and whether a window is claimed.
    """

    meta: Meta
    users: Sequence[str]
    ledger: LedgerColumns

    def commit(self, batches: Sequence[CommitBatch]) -> list[CommitResult]:
        """See Committer."""
        memory = MemoryCommitter(self.meta, MemoryDueIndex(self.meta.shards), MemoryLedger(accounts_of(self.users, self.ledger)))
        return memory.commit([unbound(batch) for batch in batches])


def unbound(batch: CommitBatch) -> CommitBatch:
    """Return a batch that is bound to no lease, window or slot, and leaves held rows and the log alone."""
    none = {name: np.full_like(getattr(batch, name), -1) for name in _PER_USER}
    return replace(batch, fence=0, released=Released.none(), log_blob=b"", **none)


def log_only(batches: Sequence[CommitBatch], blobs: Sequence[bytes], committer: Committer) -> None:
    """Commit batches of which nothing is left but an entry of the decision log each. Raises what the committer raises."""
    committer.commit([_empty(batch, blob) for batch, blob in zip(batches, blobs, strict=True)])


def _empty(batch: CommitBatch, blob: bytes) -> CommitBatch:
    nothing = {name: getattr(batch, name)[:0] for name in _PER_ROW}
    return replace(unbound(batch), digests=Digests.none(), log_blob=blob, batch_id=secrets.token_bytes(16), **nothing)


def accounts_of(users: Sequence[str], ledger: LedgerColumns) -> dict[str, Account]:
    """Return the accounts that ledger columns tell of, without the windows they claimed."""
    accounts = {user: Account() for user in users}
    names = [column.name for column in fields(LedgerColumns) if column.name != "user"]
    rows = zip(*(getattr(ledger, name).tolist() for name in names), strict=True)
    for user, row in zip(ledger.user.tolist(), rows, strict=True):
        accounts[users[user]].grants.append(Grant(**dict(zip(names, row, strict=True))))
    return accounts
