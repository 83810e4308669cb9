"""The commit: the one step that grants, enqueues, holds, logs and moves users on, all or nothing per batch.

A batch is at most 500 users of one shard. What the commit says is final: `decide` only proposes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from budgets.ledger import decision_tags
from lake.decisions import BELOW_THRESHOLD, DIGEST, DUPLICATE, HOLD, OVER_BUDGET, REASON, SEND, UPDATE, Lane, is_any
from lake.ids import Keys64

MAX_USERS = 500
"""Most users of one batch: a script blocks the store while it runs."""

OK, STALE_FENCE, WINDOW_CLAIMED = range(3)
"""What became of a user: decided; not ours to decide any more; decided before in this window or slot."""

NO_SLOT = -1

Bools = npt.NDArray[np.bool_]


class NotDurableError(RuntimeError):
    """The store took a commit but could not say that it is on disk; a repeat of the same batches is harmless."""


@dataclass(frozen=True)
class Released:
    """Held rows that were offered again and are held no longer, unless they were proposed and refused for want of a unit.

    int32 codes of users and items, uint8 channels, shape (m,).
    """

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
    def released_rows(self) -> dict[tuple[int, int, int], int]:
        """The proposed row, -1: none, of each held row to release, by its user, item and channel."""
        gone = self.released
        if not len(gone.user):
            return {}
        proposed = {key: row for row, key in enumerate(zip(self.user.tolist(), self.item.tolist(), self.channel.tolist(), strict=True))}
        return {key: proposed.get(key, -1) for key in zip(gone.user.tolist(), gone.item.tolist(), gone.channel.tolist(), strict=True)}

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
CLAIMED: Outcome = (DUPLICATE, REASON["window_claimed"])
LEFT_OUT: Outcome = (OVER_BUDGET, REASON["window_full"])
GAVE_WAY: Outcome = (BELOW_THRESHOLD, REASON["held_evicted"])
STALE: Outcome = (DUPLICATE, REASON["stale_fence"])


def all_stale(batch: CommitBatch) -> CommitResult:
    """Return the result of a batch whose fence is stale: nothing was written, its users are another's to decide."""
    disposition, reason = (np.full(len(batch), code, np.uint8) for code in STALE)
    return CommitResult(np.full(len(batch.users), STALE_FENCE, np.uint8), disposition, reason)
