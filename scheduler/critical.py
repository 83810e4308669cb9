"""Who pays for critical rows: each that is about to be sent spends a unit of its API key's day, and one that was not sent gives it back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from budgets.critical_quota import CriticalQuota
from lake.decisions import INELIGIBLE, REASON, SEND, UPDATE, Decided, is_any
from lake.ids import Keys64

PER_DAY = 1000
"""Critical rows an API key may cause per UTC day where nobody says otherwise."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Payer:
    """Whose quota a request spends. `quota`: rows per UTC day, None: the deployment's."""

    key_id: str
    quota: int | None = None


@dataclass(frozen=True)
class Bill:
    """What a run has paid for a key: `rows` of the decision, and the `uses` they were spent as, uint64."""

    key_id: str
    rows: npt.NDArray[np.intp]
    uses: Keys64


def charge(
    decided: Decided, rows: npt.NDArray[np.intp], uses: Keys64, payers: Sequence[Payer], quota: CriticalQuota, per_day: int
) -> list[Bill]:
    """Spend a unit for each of `rows`, which are proposed as critical, and make those that find none ineligible.

    `uses`: what each is spent as, uint64 (len(rows),). `payers`: one per request. Raises what the store raises; what was
    spent then is found again by a repeat of the decision.
    """
    bills = []
    paying = [payers[request] for request in decided.candidates.request[rows].tolist()]
    for payer in dict.fromkeys(paying):
        mine = np.flatnonzero([each == payer for each in paying])
        limit = per_day if payer.quota is None else payer.quota
        found = quota.spend(payer.key_id, uses[mine], limit, decided.at)
        refused = rows[mine[~found.admitted]]
        decided.disposition[refused], decided.reason[refused], decided.propensity[refused] = INELIGIBLE, REASON["critical_quota"], 0.0
        bills.append(Bill(payer.key_id, rows[mine[found.charged]], uses[mine[found.charged]]))
        # Whoever may skip every budget is watched: who, how often, and what was refused.
        log.warning("critical: key %s asks for %d rows, %d of them beyond its %d a day", payer.key_id, len(mine), len(refused), limit)
    return bills


def settle(decided: Decided, bills: Sequence[Bill], quota: CriticalQuota) -> None:
    """Give back what was paid for rows that the commit did not send."""
    for bill in bills:
        unsent = ~is_any(decided.disposition[bill.rows], SEND, UPDATE)
        if unsent.any():
            quota.give_back(bill.key_id, bill.uses[unsent], decided.at)
