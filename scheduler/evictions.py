"""Held rows that gave way to more valuable ones: each ends in the decision log, as every row does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from lake.decision_log import pack_parts
from lake.decisions import HOLD, Candidates, Decided
from scheduler.commit import GAVE_WAY, CommitBatch, CommitResult, Committer, Evicted
from scheduler.rehearsal import log_only


def log_evicted(
    decided: Decided, batches: Sequence[CommitBatch], results: Sequence[CommitResult], channels: tuple[str, ...], to: Committer
) -> None:
    """Log the rows held by earlier decisions that `results` say gave way, an entry for each batch with any; most have none.

    They are logged under the decision whose row took their place, with the value they were held at and nothing else known of them.
    Raises what the committer raises; the commit itself has happened by then.
    """
    gone = [_earlier(batch, result) for batch, result in zip(batches, results, strict=True)]
    if not any(gone):
        return
    blobs = [_entry(decided, batch, rows, channels) for batch, rows in zip(batches, gone, strict=True) if rows]
    log_only(list(compress(batches, gone)), blobs, to)


def _earlier(batch: CommitBatch, result: CommitResult) -> list[Evicted]:
    """Return what gave way less the batch's own rows, whose entry says so already."""
    if not result.evicted:
        return []
    own = np.flatnonzero((result.disposition == GAVE_WAY[0]) & (result.reason == GAVE_WAY[1]))
    told = {(batch.users[batch.user[row]], batch.items[batch.item[row]], int(batch.channel[row])) for row in own.tolist()}
    return [row for row in result.evicted if (row.user_id, row.item_id, row.channel) not in told]


def _entry(decided: Decided, batch: CommitBatch, rows: list[Evicted], channels: tuple[str, ...]) -> bytes:
    n = len(rows)
    held_for = {batch.users[batch.user[row]]: int(batch.request[row]) for row in np.flatnonzero(batch.disposition == HOLD).tolist()}
    unknown = np.full(n, np.nan, np.float32)
    gone = Decided(
        candidates=Candidates(
            users=[row.user_id for row in rows],
            items=[row.item_id for row in rows],
            user=np.arange(n, dtype=np.int32),
            item=np.arange(n, dtype=np.int32),
            channel=np.array([row.channel for row in rows], np.uint8),
            source=np.zeros(n, np.uint8),
            sources=("held",),
            request=np.array([held_for[row.user_id] for row in rows], np.int32),
        ),
        probability=unknown,
        value=np.array([row.value for row in rows], np.float32),
        threshold=unknown,
        propensity=np.zeros(n, np.float32),
        allowance=np.zeros(n, np.int16),
        disposition=np.full(n, GAVE_WAY[0], np.uint8),
        reason=np.full(n, GAVE_WAY[1], np.uint8),
        grant_id=np.zeros(n, np.uint64),
        decision_ids=decided.decision_ids,
        lane=decided.lane,
        model_id="",
        at=decided.at,
    )
    [blob] = pack_parts(gone, channels, np.arange(n), np.array([0, n]), [np.empty(0, np.intp)], np.ones(n, np.float32))
    return blob
