"""The columns that flow through a decision: candidates in, decided rows out. Ids are dictionary-encoded per batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Lane = Literal["scheduled", "urgent"]

DISPOSITIONS = ("send", "update", "hold", "below_threshold", "over_budget", "ineligible", "duplicate", "expired", "suppressed", "digest")
SEND, UPDATE, HOLD, BELOW_THRESHOLD, OVER_BUDGET, INELIGIBLE, DUPLICATE, EXPIRED, SUPPRESSED, DIGEST = range(len(DISPOSITIONS))
PENDING = 255
"""Not decided yet: the row has passed every stage so far. Never leaves the pipeline."""

Codes = npt.NDArray[np.uint8]


def is_any(disposition: Codes, *wanted: int) -> npt.NDArray[np.bool_]:
    """Return which dispositions are among the wanted ones; np.isin takes ten times as long for a batch of a few rows."""
    among = np.zeros(256, bool)
    among[list(wanted)] = True
    return among[disposition]


REASONS = (
    "",
    "unknown_user",
    "unknown_item",
    "author_is_recipient",
    "preference",
    "no_address",
    "unsubscribed",
    "already_sent",
    "item_expired",
    "too_old",
    "over_candidate_limit",
    "below_threshold",
    "budget_spent",
    "window_full",
    "other_channel_better",
    "same_entity_better",
    "better_next_window",
    "newer_version",
    "stale_fence",
    "window_claimed",
    "quiet_hours",
    "critical",
    "critical_quota",
    "explored",
    "held_evicted",
    "above_threshold",
    "in_future",
    "already_engaged",
    "switched_off",
    "holdout",
    "in_digest",
    "digest_full",
    "awaits_digest",
    "window_late",
)
REASON = {name: code for code, name in enumerate(REASONS)}


@dataclass(frozen=True)
class Candidates:
    """Rows (user, item, channel) that could be sent.

    `users`, `items`: distinct ids of the batch. `user`, `item`: int32 codes into them, shape (n,). `channel`: uint8
    codes into the store's channels. `source`: uint8 codes into `sources`, the names of what proposed the rows.
    `request`: int32 code of the urgent request a row belongs to (0 where there is one request only).
    """

    users: list[str]
    items: list[str]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]
    source: npt.NDArray[np.uint8]
    sources: tuple[str, ...]
    request: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Candidates:
        """Return the given rows, with the same dictionaries."""
        columns = ("user", "item", "channel", "source", "request")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True)
class Decided:
    """Candidates with what was decided for each, one row per candidate, in the candidates' order.

    `probability`, `value`, `threshold`: float32, NaN where a row was dropped before scoring. `propensity`: float32, the probability that
    the decision sends the row, 0 where it was dropped.
    `allowance`: int16, units left of the user's channel. `disposition`, `reason`: uint8 codes into DISPOSITIONS, REASONS.
    `grant_id`: uint64, 0 where nothing was granted. `decision_ids`: one per request. `at`: seconds, the `now` of the decision.
    `stale`: the commit refused, because another worker holds the shard now. `dry`: a rehearsal: nothing was granted, enqueued or held.
    """

    candidates: Candidates
    probability: npt.NDArray[np.float32]
    value: npt.NDArray[np.float32]
    threshold: npt.NDArray[np.float32]
    propensity: npt.NDArray[np.float32]
    allowance: npt.NDArray[np.int16]
    disposition: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    grant_id: npt.NDArray[np.uint64]
    decision_ids: list[str]
    lane: Lane
    model_id: str
    at: float
    stale: bool = False
    dry: bool = False
