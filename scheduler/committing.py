"""The last stage of a decision: the store has the last word on what was proposed, shard by shard, and every row is logged with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.decision_log import pack_parts
from lake.decisions import DIGEST, HOLD, SEND, Decided, is_any
from lake.ids import combine, hash64
from lake.meta import Meta
from scheduler.batch import Batch
from scheduler.commit import STALE_FENCE, CommitBatch, Committer
from scheduler.evictions import log_evicted
from scheduler.grants import grant_ids
from scheduler.parts import Parts, cut, spans
from scheduler.rehearsal import Rehearsal, log_only
from scheduler.released import released, released_of
from scheduler.riders import Leads, digests_of, last_end

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Committing:
    """Commits decisions, a batch for each shard of their users.

    `deliver_within_s`: a grant not delivered by then expires. `log_share`: of the rows that were not sent, how many are logged.
    """

    meta: Meta
    committer: Committer
    deliver_within_s: float
    log_share: float

    def commit(self, decided: Decided, batch: Batch, leads: Leads) -> Decided:
        """Commit what was proposed and return what became of it; raises what the committer raises. `leads`: rows that tell of others."""
        parts = Parts.of(batch.shard)
        proposals = np.flatnonzero(is_any(decided.disposition, SEND, HOLD, DIGEST))
        worth, user = np.nan_to_num(decided.value[proposals], nan=np.inf), batch.rows.user[proposals]
        proposals = proposals[np.lexsort((-worth, user, parts.part[user]))]
        decided.grant_id[proposals] = grant_ids(batch.rows, batch.items, batch.item[proposals], proposals)
        batches = self._batches(decided, batch, parts, proposals, leads)
        committer = Rehearsal(self.meta, batch.rows.users, batch.ledger) if decided.dry else self.committer
        results = committer.commit(batches)
        stale = False
        for span, result in zip(parts.spans(batch.rows.user[proposals]), results, strict=True):
            settled = proposals[span]
            decided.disposition[settled], decided.reason[settled] = result.disposition, result.reason
            decided.grant_id[settled[~result.granted]] = 0
            stale |= bool((result.status == STALE_FENCE).any())
        if decided.dry:
            decided.grant_id[:] = 0
            log_only(batches, self._log(decided, batch, parts, np.empty(0, np.intp)), self.committer)
        else:
            log_evicted(decided, batches, results, self.meta.channels, self.committer)
        return replace(decided, stale=stale)

    def _batches(self, decided: Decided, batch: Batch, parts: Parts, proposals: npt.NDArray[np.intp], leads: Leads) -> list[CommitBatch]:
        """Return the batch of each part, its columns cut from those of all proposals, which are in the order of parts."""
        rows, occasion, user = batch.rows, batch.occasion, batch.rows.user[proposals]
        columns, held = self._columns(decided, batch, parts, proposals, leads), released(decided)
        blobs = self._log(decided, batch, parts, proposals)
        return [
            CommitBatch(
                shard=shard,
                lane=occasion.lane,
                now=batch.now,
                users=[rows.users[code] for code in members.tolist()],
                window_id=occasion.window_id[members],
                slot=occasion.slot[members],
                next_slot=occasion.next_slot[members],
                items=rows.items,
                **cut(columns, span),
                sources=rows.sources,
                decision_ids=batch.decision_ids,
                model_id=decided.model_id,
                fence=occasion.fence,
                released=released_of(decided, held, parts, number),
                digests=digests_of(proposals[span], leads),
                log_blob=blob,
            )
            for number, (shard, members, span, blob) in enumerate(zip(parts.shard, parts.members, parts.spans(user), blobs, strict=True))
        ]

    def _columns(
        self, decided: Decided, batch: Batch, parts: Parts, proposals: npt.NDArray[np.intp], leads: Leads
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of commit batches, one entry per proposal."""
        rows, item, user = batch.rows, batch.item[proposals], batch.rows.user[proposals]
        expires_at = batch.items.expires_at[item]
        return {
            "user": parts.place[user],
            "budget": batch.weekly[user, rows.channel[proposals]],
            "entity": batch.items.entity[item],
            "version": batch.items.version[item],
            "deliver_by": np.minimum(last_end(expires_at, proposals, leads), batch.now + self.deliver_within_s),
            "expires_at": expires_at,
            "critical": batch.critical[proposals],
            **{name: getattr(rows, name)[proposals] for name in ("item", "channel", "source", "request")},
            **{
                name: getattr(decided, name)[proposals]
                for name in ("grant_id", "disposition", "reason", "probability", "value", "threshold")
            },
        }

    def _log(self, decided: Decided, batch: Batch, parts: Parts, proposals: npt.NDArray[np.intp]) -> list[bytes]:
        """Return the decision log's entry of each part."""
        in_order = np.argsort(parts.part[batch.rows.user], kind="stable")
        logged, weight = self._logged(decided, in_order, proposals)
        cuts = np.searchsorted(parts.part[batch.rows.user[logged]], np.arange(len(parts) + 1))
        settled = parts.spans(batch.rows.user[proposals])
        committed = [np.searchsorted(logged[rows], proposals[span]) for rows, span in zip(spans(cuts), settled, strict=True)]
        return pack_parts(decided, self.meta.channels, logged, cuts, committed, weight)

    def _logged(self, decided: Decided, rows: npt.NDArray[np.intp], settled: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], F32]:
        """Return the rows to log, in their order, and the weight of each: all of them, or all settled ones and a share of the others."""
        if self.log_share >= 1.0 or decided.dry:
            return rows, np.ones(len(rows), np.float32)
        given = decided.candidates
        draw = combine(hash64(given.users)[given.user[rows]], hash64(given.items)[given.item[rows]]) / np.float64(2**64)
        kept = np.isin(rows, settled)
        chosen = kept | (draw < self.log_share)
        return rows[chosen], np.where(kept, 1.0, 1.0 / self.log_share).astype(np.float32)[chosen]
