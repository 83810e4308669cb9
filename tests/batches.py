"""Commit batches from a few words, for every test that commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lake.decisions import DIGEST, HOLD, REASON, SEND, Lane
from lake.ids import combine, hash64
from scheduler.commit import NO_SLOT, CommitBatch, Digests, Released

NOW = 1_700_000_000.0
DAY_S = 86400.0


@dataclass(frozen=True)
class Row:
    """One proposed row of a user."""

    item: str
    channel: int = 0
    value: float = 0.5
    budget: int = 3
    entity: str = ""
    version: int = 0
    hold: bool = False
    critical: bool = False
    decision: str = "d"
    expires_at: float = float("inf")
    deliver_by: float = float("inf")
    rides_with: str = ""


def grant_id(user: str, row: Row) -> int:
    """Return the grant id of a row: hash(user, entity or item, version, channel)."""
    keys = hash64([user, row.entity or row.item])
    return int(combine(keys[:1], keys[1:], np.array([row.version]), np.array([row.channel]))[0])


def entity_key(row: Row) -> int:
    """Return the key of what a row is about."""
    return int(hash64([row.entity or row.item])[0])


def reason_of(row: Row) -> int:
    """Return the code of why a row is proposed as it is."""
    if row.rides_with:
        return REASON["in_digest"]
    return REASON["better_next_window" if row.hold else "critical" if row.critical else "above_threshold"]


def released_of(users: Sequence[str], items: Sequence[str], rows: Sequence[tuple[str, str, int]]) -> Released:
    """Return held rows (user, item, channel) that are let go."""
    return Released(
        np.array([users.index(user) for user, _, _ in rows], np.int32),
        np.array([items.index(item) for _, item, _ in rows], np.int32),
        np.array([channel for _, _, channel in rows], np.uint8),
    )


def digests_of(flat: Sequence[tuple[int, Row]]) -> Digests:
    """Return which rows tell of which, by the items that riders name."""
    places = {(user, row.item): place for place, (user, row) in enumerate(flat)}
    riders = [place for place, (_, row) in enumerate(flat) if row.rides_with]
    leads = [places[flat[place][0], flat[place][1].rides_with] for place in riders]
    return Digests(np.array(leads, np.int32), np.array(riders, np.int32), ("topic:*",) * len(riders))


def batch(
    rows: Mapping[str, Sequence[Row]],
    *,
    shard: int = 0,
    now: float = NOW,
    lane: Lane = "urgent",
    window: int = -1,
    slot: int = NO_SLOT,
    next_slot: int = NO_SLOT,
    fence: int = 0,
    released: Sequence[tuple[str, str, int]] = (),
    log_blob: bytes = b"",
    batch_id: bytes | None = None,
) -> CommitBatch:
    """Return the batch of `rows` per user, each user's by descending value."""
    users = list(rows)
    flat = [(code, row) for code, user in enumerate(users) for row in sorted(rows[user], key=lambda row: -row.value)]
    items = list(dict.fromkeys([*(row.item for _, row in flat), *(item for _, item, _ in released)]))
    decisions = list(dict.fromkeys(row.decision for _, row in flat)) or ["d"]

    def column(kind: Any, values: Sequence[Any]) -> Any:
        return np.array(values, kind)

    identity = {} if batch_id is None else {"batch_id": batch_id}
    return CommitBatch(
        shard=shard,
        lane=lane,
        now=now,
        users=users,
        window_id=np.full(len(users), window, np.int32),
        slot=np.full(len(users), slot, np.int64),
        next_slot=np.full(len(users), next_slot, np.int64),
        items=items,
        user=column(np.int32, [code for code, _ in flat]),
        item=column(np.int32, [items.index(row.item) for _, row in flat]),
        channel=column(np.uint8, [row.channel for _, row in flat]),
        budget=column(np.uint8, [row.budget for _, row in flat]),
        grant_id=column(np.uint64, [grant_id(users[code], row) for code, row in flat]),
        entity=column(np.uint64, [entity_key(row) for _, row in flat]),
        version=column(np.uint32, [row.version for _, row in flat]),
        deliver_by=column(np.float64, [row.deliver_by for _, row in flat]),
        expires_at=column(np.float64, [row.expires_at for _, row in flat]),
        disposition=column(np.uint8, [HOLD if row.hold else DIGEST if row.rides_with else SEND for _, row in flat]),
        reason=column(np.uint8, [reason_of(row) for _, row in flat]),
        critical=column(np.bool_, [row.critical for _, row in flat]),
        probability=column(np.float32, [row.value for _, row in flat]),
        value=column(np.float32, [row.value for _, row in flat]),
        threshold=column(np.float32, [0.0 for _ in flat]),
        source=column(np.uint8, [0 for _ in flat]),
        sources=("new_posts",),
        request=column(np.int32, [decisions.index(row.decision) for _, row in flat]),
        decision_ids=decisions,
        model_id="model",
        fence=fence,
        released=released_of(users, items, released),
        digests=digests_of(flat),
        log_blob=log_blob,
        **identity,
    )
