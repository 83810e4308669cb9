"""What becomes of rows that another tells of: they share its fate, and ride along in its commit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lake.decisions import DIGEST, DUPLICATE, OVER_BUDGET, REASON, SEND, Decided
from scheduler.commit import Digests
from scheduler.digests import DigestRule, Keyed, Together

Leads = dict[int, tuple[int, str]]
"""By row that is told with others: the row that tells of it, and the rule that brought them together."""


def follow(told: Together, keys: Keyed, rules: Sequence[DigestRule], pending: npt.NDArray[np.intp], decided: Decided) -> Leads:
    """Let riders share what was decided for their leads, in place; returns the leads of those that go. `pending`: the rows of `decided`."""
    riders = np.flatnonzero(told.lead != np.arange(len(pending)))
    mine, lead = pending[riders], pending[told.lead[riders]]
    for column in (decided.disposition, decided.reason, decided.propensity):
        column[mine] = column[lead]
    sent = (decided.disposition[lead] == SEND) & ~told.beyond[riders]
    full = mine[(decided.disposition[lead] == SEND) & told.beyond[riders]]
    decided.disposition[mine[sent]], decided.reason[mine[sent]] = DIGEST, REASON["in_digest"]
    decided.disposition[full], decided.reason[full] = OVER_BUDGET, REASON["digest_full"]
    decided.disposition[pending[told.twin]], decided.reason[pending[told.twin]] = DUPLICATE, REASON["same_entity_better"]
    by = [rules[rule].by for rule in keys.rule[riders[sent]].tolist()]
    return {row: (its, name) for row, its, name in zip(mine[sent].tolist(), lead[sent].tolist(), by, strict=True)}


def last_end(expires_at: npt.NDArray[np.float64], rows: npt.NDArray[np.intp], leads: Leads) -> npt.NDArray[np.float64]:
    """Return until when each row has something to tell: one that tells of several, until the last of them ends, (n,)."""
    last = expires_at.copy()
    place = {row: number for number, row in enumerate(rows.tolist())} if leads else {}
    for rider, (lead, _) in leads.items():
        last[place[lead]] = max(last[place[lead]], expires_at[place[rider]])
    return last


def digests_of(rows: npt.NDArray[np.intp], leads: Leads) -> Digests:
    """Return what is told together among the rows of a commit, by their places."""
    if not leads:
        return Digests.none()
    place = {row: number for number, row in enumerate(rows.tolist())}
    pairs = [(place[leads[row][0]], number, leads[row][1]) for row, number in place.items() if row in leads]
    lead, rider = (np.array([pair[side] for pair in pairs], np.int32) for side in (0, 1))
    return Digests(lead, rider, tuple(by for _, _, by in pairs))
