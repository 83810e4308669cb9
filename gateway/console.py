"""What the console shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from budgets.ledger import LedgerColumns, used
from lake.metrics import CANDIDATES, LAST_SLOT, LAST_WINDOW_LAG_S, MODEL_ID, WINDOWS
from scheduler.windows import SLOT_S


@dataclass(frozen=True)
class Overview:
    """The state of the system. Counts are totals since the store was created; times are epoch seconds, None: not yet.

    `sends`: by lane, then channel. `dispositions`: candidates by what was decided. `outcomes`: deliveries by channel, then
    outcome. `budget_use`: by channel, the share of this week's budgets that is spent. `outbox_backlog`: granted, not delivered.
    `alarms`: what is wrong now.
    """

    windows: int = 0
    candidates: int = 0
    sends: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dispositions: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    budget_use: Mapping[str, float] = field(default_factory=dict)
    outbox_backlog: int = 0
    last_slot_at: float | None = None
    window_lag_s: float | None = None
    model_id: str = ""
    alarms: Sequence[str] = ()
    at: float = 0.0


def overview_of(counters: Iterable[Mapping[str, str]], *, at: float, outbox_backlog: int, budget_use: Mapping[str, float]) -> Overview:
    """Return the overview of the shards' counter hashes: totals are added up; of what is set, the latest slot's counts."""
    totals: Counter[str] = Counter()
    latest: dict[str, float] = {}
    model_slot, model_id = float("-inf"), ""
    for shard in counters:
        for name, value in shard.items():
            if name in (LAST_SLOT, LAST_WINDOW_LAG_S):
                latest[name] = max(latest.get(name, float("-inf")), float(value))
            elif name != MODEL_ID:
                totals[name] += int(value)
        if MODEL_ID in shard and (slot := float(shard.get(LAST_SLOT, 0.0))) > model_slot:
            model_slot, model_id = slot, shard[MODEL_ID]
    return Overview(
        windows=totals[WINDOWS],
        candidates=totals[CANDIDATES],
        sends=_nested(totals, "sends:"),
        dispositions={name.partition(":")[2]: n for name, n in sorted(totals.items()) if name.startswith("dispositions:")},
        outcomes=_nested(totals, "outcome:"),
        budget_use=budget_use,
        outbox_backlog=outbox_backlog,
        last_slot_at=latest[LAST_SLOT] * SLOT_S if LAST_SLOT in latest else None,
        window_lag_s=latest.get(LAST_WINDOW_LAG_S),
        model_id=model_id,
        at=at,
    )


def _nested(totals: Mapping[str, int], prefix: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, n in sorted(totals.items()):
        if name.startswith(prefix):
            outer, inner = name.removeprefix(prefix).split(":", 1)
            found.setdefault(outer, {})[inner] = n
    return found


def budget_use(ledger: LedgerColumns, weekly: npt.NDArray[np.uint8], channels: Sequence[str], now: float) -> dict[str, float]:
    """Return the share of the rolling week's budgets that is spent, by the channels on which anything is.

    `weekly`: uint8 (users, channels), the budgets of the users of `ledger`.
    """
    spent = used(ledger, len(weekly), len(channels), now).sum(axis=0, dtype=np.int64)
    budget = weekly.sum(axis=0, dtype=np.int64)
    return {channel: float(units / whole) for channel, units, whole in zip(channels, spent, budget, strict=True) if units and whole}
