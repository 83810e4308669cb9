"""The commit on memory's stores: what the script of the real one does, row by row, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from budgets.ledger import CRITICAL, DIGESTED, NO_WINDOW, OPENED, UPDATED, Account, Grant, MemoryLedger
from lake.decision_log import MemoryDecisionStream
from lake.decisions import DIGEST, HOLD, REASONS, SEND
from lake.messages import Message
from lake.meta import Meta
from scheduler.commit import (
    ALREADY_SENT,
    CLAIMED,
    GAVE_WAY,
    LEFT_OUT,
    NO_SLOT,
    OK,
    REPLACED,
    SPENT,
    STALE_FENCE,
    WINDOW_CLAIMED,
    CommitBatch,
    CommitResult,
    Evicted,
    Outcome,
    all_stale,
)
from scheduler.due import MemoryDueIndex
from scheduler.held import MAX_HELD, Held, MemoryHeldStore
from scheduler.lease import MemoryLeases, shard_lease

ANSWERS_KEPT = 1000
"""How many batches the memory commit knows again."""


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
        self.released = batch.released_rows
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
        mine = [(item, channel, row) for (owner, item, channel), row in self.released.items() if owner == user]
        if mine:
            user_id = self.batch.users[user]
            kept = self._unexpired(user_id)
            for item, channel, row in mine:
                if row < 0 or self.final[row] not in (SPENT, LEFT_OUT):
                    kept.pop((self.batch.items[item], channel), None)
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
