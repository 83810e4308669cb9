"""The commit: the one step that grants, enqueues, holds, logs and moves users on, all or nothing per batch.

A batch is at most 500 users of one shard. What the commit says is final: `decide` only proposes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from budgets.ledger import CRITICAL, DIGESTED, NO_WINDOW, OPENED, UPDATED, Account, Grant, MemoryLedger, decision_tags
from lake.decision_log import MemoryDecisionStream
from lake.decisions import BELOW_THRESHOLD, DIGEST, DUPLICATE, HOLD, OVER_BUDGET, REASON, REASONS, SEND, UPDATE, Lane, is_any
from lake.ids import Keys64
from lake.messages import Message
from lake.meta import Meta
from scheduler.due import MemoryDueIndex
from scheduler.held import MAX_HELD, Held, MemoryHeldStore
from scheduler.lease import MemoryLeases, shard_lease

MAX_USERS = 500
"""Most users of one batch: a script blocks the store while it runs."""

OK, STALE_FENCE, WINDOW_CLAIMED = range(3)
"""What became of a user: decided; not ours to decide any more; decided before in this window or slot."""

NO_SLOT = -1
ANSWERS_KEPT = 1000
"""How many batches the memory commit knows again."""

Bools = npt.NDArray[np.bool_]


class NotDurableError(RuntimeError):
    """The store took a commit but could not say that it is on disk; a repeat of the same batches is harmless."""


@dataclass(frozen=True)
class Released:
    """Held rows that were offered again and are held no longer: int32 codes of users and items, uint8 channels, shape (m,)."""

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]

    @staticmethod
    def none() -> Released:
        """Return no rows."""
        return Released(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8))


@dataclass(frozen=True)
class Digests:
    """What is told together: places of rows, int32 (m,): each `rider` is told of by the `lead` above it; `by`: its rule, by pair."""

    lead: npt.NDArray[np.int32]
    rider: npt.NDArray[np.int32]
    by: tuple[str, ...]

    @staticmethod
    def none() -> Digests:
        """Return no pairs."""
        return Digests(np.empty(0, np.int32), np.empty(0, np.int32), ())

    def riders(self) -> dict[int, tuple[str, list[int]]]:
        """Return the rule and the riders of each lead."""
        found: dict[int, tuple[str, list[int]]] = {}
        for lead, rider, by in zip(self.lead.tolist(), self.rider.tolist(), self.by, strict=True):
            found.setdefault(lead, (by, []))[1].append(rider)
        return found


@dataclass(frozen=True)
class CommitBatch:
    """What is proposed for at most MAX_USERS distinct users of one shard.

    `fence`: token of the shard's lease, 0: none needed. `now`: epoch seconds. Per user, shape (U,): `window_id` int32,
    the window to claim, NO_WINDOW: none; `slot` int64, the slot the user is decided in, NO_SLOT: none; `next_slot` int64,
    where to move the user; without a slot it enrolls a user who is in none; NO_SLOT: leave.

    Per row, shape (n,), sorted by `user` and then in the order in which budget is given out (descending value): `user`,
    `item`, `request` int32 codes into `users`, `items`, `decision_ids`; `channel` uint8; `budget` uint8, the weekly limit
    of its user and channel; `grant_id`, `entity` uint64; `version` uint32; `deliver_by`, `expires_at` float64, epoch
    seconds (inf: no limit); `disposition` uint8, SEND, HOLD or, for
    riders of `digests`, DIGEST as proposed, with its `reason` uint8; `critical` bool;
    `probability`, `value`, `threshold` float32 and `source` uint8 code into `sources` for the audit.

    `log_blob`: the packed decision log entry, b"" for none. `batch_id`: what makes a repeat of this very batch harmless.
    Raises ValueError where the shapes or the order are wrong.
    """

    shard: int
    lane: Lane
    now: float
    users: list[str]
    window_id: npt.NDArray[np.int32]
    slot: npt.NDArray[np.int64]
    next_slot: npt.NDArray[np.int64]
    items: list[str]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]
    budget: npt.NDArray[np.uint8]
    grant_id: Keys64
    entity: Keys64
    version: npt.NDArray[np.uint32]
    deliver_by: npt.NDArray[np.float64]
    expires_at: npt.NDArray[np.float64]
    disposition: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    critical: Bools
    probability: npt.NDArray[np.float32]
    value: npt.NDArray[np.float32]
    threshold: npt.NDArray[np.float32]
    source: npt.NDArray[np.uint8]
    sources: tuple[str, ...]
    request: npt.NDArray[np.int32]
    decision_ids: list[str]
    model_id: str
    fence: int = 0
    released: Released = field(default_factory=Released.none)
    digests: Digests = field(default_factory=Digests.none)
    log_blob: bytes = b""
    batch_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def __post_init__(self) -> None:
        if not 0 < len(self.users) <= MAX_USERS or len(set(self.users)) < len(self.users):
            raise ValueError(f"a batch holds 1 to {MAX_USERS} different users, not {len(self.users)}")
        if any(len(getattr(self, name)) != len(self.users) for name in ("window_id", "slot", "next_slot")):
            raise ValueError("window_id, slot and next_slot need one entry per user")
        wrong = [name for name in _ROW_COLUMNS if len(getattr(self, name)) != len(self.user)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} need one entry per row")
        if (self.user[1:] < self.user[:-1]).any() or not is_any(self.disposition, SEND, HOLD, DIGEST).all():
            raise ValueError("rows must be sorted by user and proposed as SEND, HOLD or DIGEST")
        told = self.digests
        riders = np.flatnonzero(self.disposition == DIGEST)
        if (len(riders) or len(told.rider)) and (np.any(told.lead >= told.rider) or not np.array_equal(np.sort(told.rider), riders)):
            raise ValueError("every DIGEST row, and no other, needs one lead, which stands before it")

    def __len__(self) -> int:
        return len(self.user)

    @property
    def decision_tags(self) -> npt.NDArray[np.uint32]:
        """How a ledger entry knows its own decision again, uint32 (n,)."""
        return decision_tags(self.decision_ids)[self.request]

    @property
    def rows_per_user(self) -> npt.NDArray[np.int64]:
        """How many rows each user has, shape (U,)."""
        return np.bincount(self.user, minlength=len(self.users))


_ROW_COLUMNS = (
    *("item", "channel", "budget", "grant_id", "entity", "version", "deliver_by", "expires_at", "disposition", "reason"),
    *("critical", "probability", "value", "threshold", "source", "request"),
)


@dataclass(frozen=True)
class Evicted:
    """A held row that gave way to a more valuable one."""

    user_id: str
    item_id: str
    channel: int
    value: float


@dataclass(frozen=True)
class CommitResult:
    """What became of a batch. `status`: uint8 per user. `disposition`, `reason`: uint8 per row, final."""

    status: npt.NDArray[np.uint8]
    disposition: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    evicted: list[Evicted] = field(default_factory=list)

    @property
    def granted(self) -> Bools:
        """Which rows are on their way (SEND, UPDATE or DIGEST), shape (n,)."""
        return is_any(self.disposition, SEND, UPDATE, DIGEST)

    def grants(self, batch: CommitBatch) -> Keys64:
        """Return the grant id of each row that is on its way, 0 elsewhere, shape (n,)."""
        return np.where(self.granted, batch.grant_id, np.uint64(0))


class Committer(Protocol):
    """Commits batches."""

    def commit(self, batches: Sequence[CommitBatch]) -> list[CommitResult]:
        """Commit batches, of any shards, and return what became of each; one round trip, atomic per batch.

        Returns once it is on disk where the committer is durable. Raises the store's errors and NotDurableError; some
        batches may then have happened, and repeating them leads to the same grants and one log entry each.
        """
        ...


Outcome = tuple[int, int]
"""A disposition and its reason."""

ALREADY_SENT: Outcome = (DUPLICATE, REASON["already_sent"])
SPENT: Outcome = (OVER_BUDGET, REASON["budget_spent"])
REPLACED: Outcome = (UPDATE, REASON["newer_version"])
STALE: Outcome = (DUPLICATE, REASON["stale_fence"])
CLAIMED: Outcome = (DUPLICATE, REASON["window_claimed"])
LEFT_OUT: Outcome = (OVER_BUDGET, REASON["window_full"])
GAVE_WAY: Outcome = (BELOW_THRESHOLD, REASON["held_evicted"])


@dataclass
class MemoryCommitter:
    """The commit on memory's stores, for tests and replay; the scripted one does the same row by row."""

    meta: Meta
    due: MemoryDueIndex
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    leases: MemoryLeases = field(default_factory=MemoryLeases)
    held: MemoryHeldStore = field(default_factory=MemoryHeldStore)
    log: MemoryDecisionStream = field(default_factory=MemoryDecisionStream)
    outbox: dict[int, list[Message]] = field(default_factory=dict)
    done: dict[bytes, CommitResult] = field(default_factory=dict)

    def commit(self, batches: Sequence[CommitBatch]) -> list[CommitResult]:
        """See Committer."""
        return [self._once(batch) for batch in batches]

    def _once(self, batch: CommitBatch) -> CommitResult:
        if batch.batch_id not in self.done:
            result = self._commit(batch)
            if not np.any(result.status == STALE_FENCE):
                self.done[batch.batch_id] = result
            if len(self.done) > ANSWERS_KEPT:
                del self.done[next(iter(self.done))]
            return result
        return self.done[batch.batch_id]

    def _commit(self, batch: CommitBatch) -> CommitResult:
        if batch.fence and batch.fence != self.leases.token(shard_lease(batch.shard)):
            return all_stale(batch)
        work = _Work(self, batch)
        status = np.array([work.settle(user) for user in range(len(batch.users))], np.uint8)
        final = np.array(work.final, np.uint8).reshape(-1, 2)
        if batch.log_blob:
            self.log.append(batch.shard, batch.log_blob, final.tobytes())
        return CommitResult(status, final[:, 0].copy(), final[:, 1].copy(), work.evicted)


def all_stale(batch: CommitBatch) -> CommitResult:
    """Return the result of a batch whose fence is stale: nothing was written, its users are another's to decide."""
    disposition, reason = (np.full(len(batch), code, np.uint8) for code in STALE)
    return CommitResult(np.full(len(batch.users), STALE_FENCE, np.uint8), disposition, reason)


class _Work:
    """One batch on its way through the memory commit."""

    def __init__(self, stores: MemoryCommitter, batch: CommitBatch) -> None:
        self.stores, self.batch = stores, batch
        self.final: list[Outcome] = []
        self.riders = batch.digests.riders()
        self.leads = dict(zip(batch.digests.rider.tolist(), batch.digests.lead.tolist(), strict=True))
        self.told: dict[int, Outcome] = {}
        self.evicted: list[Evicted] = []
        self.made: set[int] = set()
        self.tags = batch.decision_tags.tolist()
        self.ends = np.cumsum(batch.rows_per_user).tolist()

    def settle(self, user: int) -> int:
        """Decide one user's rows, claim the window and move the user on; return the status."""
        batch = self.batch
        rows = range(self.ends[user - 1] if user else 0, self.ends[user])
        account = self.stores.ledger.accounts.get(batch.users[user], Account())
        window = int(batch.window_id[user])
        slots = self.stores.due.of(batch.shard)
        slot, next_slot = int(batch.slot[user]), int(batch.next_slot[user])
        if (window != NO_WINDOW and window in account.windows) or (slot != NO_SLOT and slots.get(batch.users[user]) != slot):
            self.final += [self._own_grant(row, account) or CLAIMED for row in rows]
            self._move(user, slots, slot, next_slot)
            return WINDOW_CLAIMED
        before = (list(account.grants), list(account.windows))
        for row in rows:
            self.final.append(self._rider(row, account) if row in self.leads else self._row(row, account))
        self._release(user)
        if window != NO_WINDOW:
            account.claim(window)
        if before != (account.grants, account.windows):
            account.prune(batch.now)
            self.stores.ledger.accounts[batch.users[user]] = account
        self._move(user, slots, slot, next_slot)
        return OK

    def _move(self, user: int, slots: dict[str, int], slot: int, next_slot: int) -> None:
        name = self.batch.users[user]
        if next_slot != NO_SLOT and (slots.get(name) == slot if slot != NO_SLOT else name not in slots):
            slots[name] = next_slot

    def _own_grant(self, row: int, account: Account) -> Outcome | None:
        """What became of a row that was granted before: by the same decision (a repeat), by another, or a row above."""
        batch = self.batch
        found = next((grant for grant in account.grants if grant.grant_id == batch.grant_id[row]), None)
        if found is None:
            return None
        if batch.disposition[row] == HOLD or found.decision != self.tags[row] or found.grant_id in self.made:
            return ALREADY_SENT
        return REPLACED if found.flags & UPDATED else (int(batch.disposition[row]), int(batch.reason[row]))

    def _row(self, row: int, account: Account) -> Outcome:
        batch = self.batch
        known = self._own_grant(row, account)
        if known is not None:
            return known
        channel, version, critical = int(batch.channel[row]), int(batch.version[row]), bool(batch.critical[row])
        same = [grant for grant in account.grants if grant.entity == batch.entity[row]]
        if any(grant.version >= version and (grant.channel == channel or not critical) for grant in same):
            return ALREADY_SENT
        if batch.disposition[row] == HOLD:
            return self._hold(row)
        replaceable = [grant for grant in same if grant.channel == channel and not grant.flags & (OPENED | DIGESTED)]
        if replaceable:
            self._replace(row, account, replaceable[-1])
            return REPLACED
        if not critical and account.used(channel, batch.now) >= batch.budget[row]:
            return SPENT
        leads = row in self.riders
        account.add(self._grant(row, batch.now, (CRITICAL if critical else 0) | (DIGESTED if leads else 0)))
        self._enqueue(row, update=False, riders=self._told_with(row, account) if leads else ())
        return SEND, int(batch.reason[row])

    def _rider(self, row: int, account: Account) -> Outcome:
        """What became of a row that another was to tell of."""
        if row in self.told:
            return self.told[row]
        known, lead = self._own_grant(row, account), self.final[self.leads[row]]
        return known or (SPENT if lead == SPENT else LEFT_OUT)

    def _told_with(self, lead: int, account: Account) -> list[int]:
        """Grant the riders of a lead that was granted; return those that were not sent before."""
        batch, told = self.batch, []
        for row in self.riders[lead][1]:
            entity, version = int(batch.entity[row]), int(batch.version[row])
            if any(grant.entity == entity and grant.version >= version for grant in account.grants):
                self.told[row] = ALREADY_SENT
                continue
            account.add(self._grant(row, batch.now, CRITICAL | DIGESTED))
            self.made.add(int(batch.grant_id[row]))
            self.told[row] = (DIGEST, int(batch.reason[row]))
            told.append(row)
        return told

    def _replace(self, row: int, account: Account, old: Grant) -> None:
        account.swap(old, self._grant(row, old.at, old.flags | UPDATED))
        self._enqueue(row, update=True)

    def _grant(self, row: int, at: float, flags: int) -> Grant:
        batch = self.batch
        names = ("channel", "version", "grant_id", "entity")
        return Grant(at=at, flags=flags, decision=self.tags[row], **{name: int(getattr(batch, name)[row]) for name in names})

    def _enqueue(self, row: int, *, update: bool, riders: Sequence[int] = ()) -> None:
        self.made.add(int(self.batch.grant_id[row]))
        message = message_of(self.batch, row, self.stores.meta.channels, update=update)
        if row in self.riders:
            message = replace(message, entity=message.grant_id)
        if riders:
            told = tuple((self.batch.items[self.batch.item[rider]], f"{int(self.batch.grant_id[rider]):016x}") for rider in riders)
            message = replace(message, digest_by=self.riders[row][0], digest=told)
        self.stores.outbox.setdefault(self.batch.shard, []).append(message)

    def _hold(self, row: int) -> Outcome:
        batch = self.batch
        user_id, item_id, channel = batch.users[batch.user[row]], batch.items[batch.item[row]], int(batch.channel[row])
        kept = self._unexpired(user_id)
        kept.pop((item_id, channel), None)
        kept[item_id, channel] = Held(item_id, channel, float(batch.value[row]), float(batch.expires_at[row]))
        self.stores.held.rows[user_id] = kept
        if len(kept) <= MAX_HELD:
            return HOLD, int(batch.reason[row])
        least = min(reversed(kept.values()), key=lambda held: held.value)
        del kept[least.item_id, least.channel]
        self.evicted.append(Evicted(user_id, least.item_id, least.channel, least.value))
        return GAVE_WAY if (least.item_id, least.channel) == (item_id, channel) else (HOLD, int(batch.reason[row]))

    def _release(self, user: int) -> None:
        released = self.batch.released
        if not len(released.user):
            return
        mine = np.flatnonzero(released.user == user)
        if len(mine):
            user_id = self.batch.users[user]
            kept = self._unexpired(user_id)
            for row in mine:
                kept.pop((self.batch.items[released.item[row]], int(released.channel[row])), None)
            self.stores.held.rows[user_id] = kept

    def _unexpired(self, user_id: str) -> dict[tuple[str, int], Held]:
        rows = self.stores.held.rows.get(user_id, {})
        return {key: held for key, held in rows.items() if held.expires_at > self.batch.now}


def message_of(batch: CommitBatch, row: int, channels: Sequence[str], *, update: bool = False) -> Message:
    """Return the outbox message of a row that is granted as new, or as an update."""
    return Message(
        grant_id=f"{int(batch.grant_id[row]):016x}",
        user_id=batch.users[batch.user[row]],
        item_id=batch.items[batch.item[row]],
        channel=channels[batch.channel[row]],
        entity=f"{int(batch.entity[row]):016x}",
        version=int(batch.version[row]),
        update=update,
        decision_id=batch.decision_ids[batch.request[row]],
        lane=batch.lane,
        source=batch.sources[batch.source[row]],
        reason=REASONS[batch.reason[row]],
        model_id=batch.model_id,
        probability=float(batch.probability[row]),
        value=float(batch.value[row]),
        threshold=float(batch.threshold[row]),
        granted_at=batch.now,
        deliver_by=float(batch.deliver_by[row]),
        critical=bool(batch.critical[row]),
    )
