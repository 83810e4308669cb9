"""Who has been granted what: one packed string per user, its parsing into columns, and the budget's rolling 7 days.

A ledger is a header record (the windows claimed lately) and one record per grant, oldest first, all of the same size. The
scripts in scheduler/lua and budgets/lua read and write the same bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, hash64

ROLLING_S = 7 * 86400.0
"""The budget's period: a grant counts while it is at most this old."""

RETENTION_S = 28 * 86400.0
"""How long a grant is remembered, so that nobody is told the same thing twice."""

MAX_ENTRIES = 512
"""Beyond it a ledger forgets its oldest grants, except those that still count."""

WINDOWS_KEPT = 8
NO_WINDOW = -1
MAGIC = 0x3154444C  # "LDT1"

OPENED, CRITICAL, UPDATED, DIGESTED = 1, 2, 4, 8
"""Flags of an entry: its user opened it; it does not count against the budget; its last change replaced an older version; it was told
together with others, so that a newer version cannot replace it.
"""

ENTRY = np.dtype(
    [
        ("at", "<f8"),
        ("channel", "u1"),
        ("flags", "u1"),
        ("spare", "<u2"),
        ("version", "<u4"),
        ("grant_id", "<u8"),
        ("entity", "<u8"),
        ("decision", "<u4"),
    ]
)
"""One grant. `at`: epoch seconds. `decision`: the tag of its decision, by which a repeated commit knows its own."""

HEADER = np.dtype([("magic", "<u4"), ("windows", "<i4", (WINDOWS_KEPT,))])
"""The first record of a ledger. `windows`: ids of the windows claimed lately, newest first, NO_WINDOW where there is none."""


@dataclass(frozen=True)
class LedgerColumns:
    """The grants of the users of a batch, one entry per grant, by user and then by time.

    `user`: int32 codes of the batch's users. `at`: float64 epoch seconds. `grant_id`, `entity`: uint64. `version`,
    `decision`: uint32. `channel`, `flags`: uint8.
    """

    user: npt.NDArray[np.int32]
    at: npt.NDArray[np.float64]
    grant_id: Keys64
    entity: Keys64
    version: npt.NDArray[np.uint32]
    channel: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    decision: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.user)


def parse(packed: Sequence[bytes | None]) -> LedgerColumns:
    """Return the grants of packed ledgers, one per user; None: a user who was never granted anything.

    Raises ValueError naming the first ledger that is not one.
    """
    rows = [row or b"" for row in packed]
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    records = np.frombuffer(b"".join(rows), np.uint8)
    if np.any(sizes % ENTRY.itemsize):
        raise ValueError(f"ledger {np.flatnonzero(sizes % ENTRY.itemsize)[0]} is not a whole number of records")
    entries = records.view(ENTRY)
    present = np.flatnonzero(sizes)
    counts = sizes[present] // ENTRY.itemsize
    starts = np.cumsum(counts) - counts
    if np.any(records.view(HEADER)["magic"][starts] != MAGIC):
        raise ValueError(f"ledger {present[np.argmax(records.view(HEADER)['magic'][starts] != MAGIC)]} has no ledger's header")
    grants = np.ones(len(entries), bool)
    grants[starts] = False
    user = np.repeat(present.astype(np.int32), counts)
    return columns(user[grants], entries[grants])


def columns(user: npt.NDArray[np.int32], entries: npt.NDArray[np.void]) -> LedgerColumns:
    """Return records of dtype ENTRY as columns."""
    names = ("at", "grant_id", "entity", "version", "channel", "flags", "decision")
    return LedgerColumns(user, **{name: np.ascontiguousarray(entries[name]) for name in names})


def used(ledger: LedgerColumns, users: int, channels: int, now: float) -> npt.NDArray[np.int16]:
    """Return the units spent in the rolling 7 days up to `now`, both ends included, int16 (users, channels).

    Critical grants do not count. Grants dated after `now` do (another host's clock was ahead): so no 7 days anywhere
    ever hold more grants than the budget.
    """
    counts = (ledger.at >= now - ROLLING_S) & (ledger.flags & CRITICAL == 0)
    cell = ledger.user[counts].astype(np.int64) * channels + ledger.channel[counts]
    return np.bincount(cell, minlength=users * channels).astype(np.int16).reshape(users, channels)


def decision_tags(decision_ids: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Return the tag of each decision, the low 32 bits of its key; two decisions share one once in 4 billion."""
    return hash64(decision_ids).astype(np.uint32)


def granted_by_others(ledger: LedgerColumns, decision_ids: list[str]) -> LedgerColumns:
    """Return the grants that other decisions made: a decision that is repeated must not stumble over its own."""
    own = np.isin(ledger.decision, decision_tags(decision_ids))
    return ledger if not own.any() else LedgerColumns(**{column.name: getattr(ledger, column.name)[~own] for column in fields(ledger)})


class Ledger(Protocol):
    """What users were granted. The commit writes it; each call here is one round trip and blocks for the store."""

    def read(self, users: Sequence[str]) -> LedgerColumns:
        """Return the grants of users of the last 28 days."""
        ...

    def refund(self, users: Sequence[str], grant_ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Take grants back that never reached their user and return which gave their unit back, bool (n,).

        Repeating it changes nothing. A grant that replaced an older version keeps its unit: the older one may have been
        delivered.
        """
        ...

    def mark_opened(self, users: Sequence[str], keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Note that users opened a grant, or all of an entity, and return where there was one to open, bool (n,).

        `keys`: uint64 grant ids or entity keys.
        """
        ...

    def delete(self, users: Sequence[str]) -> None:
        """Forget users' ledgers."""
        ...


@dataclass(frozen=True)
class Grant:
    """One entry of a memory ledger; the fields of ENTRY."""

    at: float
    channel: int
    version: int
    grant_id: int
    entity: int
    decision: int
    flags: int = 0
    spare: int = 0

    @property
    def counts(self) -> bool:
        """Whether it spends budget."""
        return not self.flags & CRITICAL


@dataclass
class Account:
    """One user's ledger in memory."""

    grants: list[Grant] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)

    def used(self, channel: int, now: float) -> int:
        """Return the units spent on a channel, as `used` does."""
        return sum(grant.counts and grant.channel == channel and grant.at >= now - ROLLING_S for grant in self.grants)

    def claim(self, window_id: int) -> None:
        """Remember a claimed window."""
        self.windows = [window_id, *self.windows][:WINDOWS_KEPT]

    def add(self, grant: Grant) -> None:
        """Insert a grant by time."""
        self.grants.insert(bisect_right(self.grants, grant.at, key=lambda kept: kept.at), grant)

    def swap(self, old: Grant, new: Grant) -> None:
        """Put `new` in the place of `old`."""
        self.grants[self.grants.index(old)] = new

    def prune(self, now: float) -> None:
        """Forget grants past retention, and the oldest beyond MAX_ENTRIES that no longer count."""
        kept = [grant for grant in self.grants if grant.at >= now - RETENTION_S]
        while len(kept) > MAX_ENTRIES and kept[0].at < now - ROLLING_S:
            del kept[0]
        self.grants = kept


@dataclass
class MemoryLedger:
    """Accounts in a dictionary; the memory commit writes them."""

    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, user: str) -> Account:
        """Return a user's account, opening it on first use."""
        return self.accounts.setdefault(user, Account())

    def read(self, users: Sequence[str]) -> LedgerColumns:
        """See Ledger."""
        accounts = [self.accounts.get(user, _NOBODY).grants for user in users]
        table = np.array([_FIELDS(grant) for grants in accounts for grant in grants], ENTRY)
        user = np.repeat(np.arange(len(users), dtype=np.int32), [len(grants) for grants in accounts])
        return columns(user, table)

    def refund(self, users: Sequence[str], grant_ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """See Ledger."""
        ids = np.asarray(grant_ids, np.uint64).tolist()
        return np.array([self._refund(user, grant_id) for user, grant_id in zip(users, ids, strict=True)], bool)

    def _refund(self, user: str, grant_id: int) -> bool:
        account = self.accounts.get(user, _NOBODY)
        found = next((grant for grant in account.grants if grant.grant_id == grant_id and not grant.flags & UPDATED), None)
        if found is None:
            return False
        account.grants.remove(found)
        return True

    def mark_opened(self, users: Sequence[str], keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """See Ledger."""
        wanted = np.asarray(keys, np.uint64).tolist()
        return np.array([self._open(user, key) for user, key in zip(users, wanted, strict=True)], bool)

    def _open(self, user: str, key: int) -> bool:
        account = self.accounts.get(user, _NOBODY)
        mine = [grant for grant in account.grants if key in (grant.grant_id, grant.entity)]
        for grant in mine:
            account.swap(grant, replace(grant, flags=grant.flags | OPENED))
        return bool(mine)

    def delete(self, users: Sequence[str]) -> None:
        """See Ledger."""
        for user in users:
            self.accounts.pop(user, None)


_FIELDS = attrgetter(*ENTRY.names or ())
_NOBODY = Account()
