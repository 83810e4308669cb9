"""What the stages of one decision share: its candidates, all that was looked up about them, and why it is made now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from budgets.ledger import LedgerColumns
from delivery.preferences import in_quiet_hours
from lake.decisions import Candidates, Lane
from lake.items import Items
from lake.key_lists import KeyLists
from lake.profiles import Profiles
from scheduler.critical import Payer
from scheduler.windows import NO_SLOT, SLOT_S, LocalTimes, local_times_of

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Occasion:
    """Why a decision is made now, one entry per user of the batch.

    Scheduled lane: `shard`, its lease's `fence`, the `slot` that fires, the users' `window_id`. Urgent lane: shard -1,
    fence 0, slot and window_id -1. Both: `next_slot`, the users' next slots (int64 UTC quarter-hours, -1: none).
    `critical`: bool per request. `payers`: whose quota each request spends if it is critical, one per request, none in the scheduled lane.
    `dry`: a rehearsal, which decides and logs and does nothing else.
    """

    lane: Lane
    window_id: npt.NDArray[np.int32]
    slot: npt.NDArray[np.int64]
    next_slot: npt.NDArray[np.int64]
    critical: Bools
    shard: int = -1
    fence: int = 0
    payers: Sequence[Payer] = ()
    dry: bool = False


@dataclass(frozen=True)
class Known:
    """What is known of a batch's users, in their order: profiles, ledgers as they are before the decision, and what they engaged with."""

    profiles: Profiles
    ledger: LedgerColumns
    seen: KeyLists

    @cached_property
    def times(self) -> LocalTimes:
        """The users' local times."""
        return local_times_of(self.profiles)


@dataclass(frozen=True)
class Batch:
    """What the stages of one run share: the candidates and everything that was looked up about them. `shard`: of each user."""

    rows: Candidates
    profiles: Profiles
    items: Items
    item_row: npt.NDArray[np.int32]
    seen: KeyLists
    ledger: LedgerColumns
    allowance: npt.NDArray[np.int16]
    weekly: npt.NDArray[np.uint8]
    occasion: Occasion
    decision_ids: list[str]
    now: float
    shard: npt.NDArray[np.integer]
    times: LocalTimes

    @cached_property
    def critical(self) -> Bools:
        """Which rows belong to a critical request."""
        return self.occasion.critical[self.rows.request]

    @cached_property
    def item(self) -> npt.NDArray[np.int32]:
        """The row of `items` of each candidate, -1: unknown."""
        return self.item_row[self.rows.item]

    @cached_property
    def quiet(self) -> Bools:
        """Whether these are each user's quiet hours, shape (users,)."""
        return in_quiet_hours(self.profiles, self.times.minutes_at(self.now))

    @cached_property
    def wait_s(self) -> npt.NDArray[np.float64]:
        """Seconds until each user's next window, shape (users,), inf where there is none."""
        next_slot = self.occasion.next_slot
        return np.where(next_slot == NO_SLOT, np.inf, np.maximum(next_slot * float(SLOT_S) - self.now, 0.0))

    @cached_property
    def late_s(self) -> npt.NDArray[np.float64]:
        """Seconds since each user's slot began, shape (users,), 0 where the user is in none."""
        slot = self.occasion.slot
        return np.where(slot == NO_SLOT, 0.0, np.maximum(self.now - slot * float(SLOT_S), 0.0))
