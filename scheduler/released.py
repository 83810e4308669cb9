"""Which held rows are held no longer, once they were offered again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.decisions import HOLD, OVER_BUDGET, REASON, Decided, is_any
from scheduler.commit import Released
from scheduler.parts import Parts


def released(decided: Decided) -> npt.NDArray[np.intp]:
    """Return the held rows that were offered and need not be offered again: all but those that lacked budget or room, are off, or came
    in quiet hours.
    """
    rows = decided.candidates
    if "held" not in rows.sources:
        return np.empty(0, np.intp)
    waits = is_any(decided.disposition, HOLD, OVER_BUDGET) | np.isin(decided.reason, [REASON["switched_off"], REASON["quiet_hours"]])
    return np.flatnonzero((rows.source == rows.sources.index("held")) & ~waits)


def released_of(decided: Decided, held: npt.NDArray[np.intp], parts: Parts, part: int) -> Released:
    """Return those of some held rows that belong to a part."""
    rows = decided.candidates
    mine = held[parts.part[rows.user[held]] == part] if len(held) else held
    return Released(parts.place[rows.user[mine]], rows.item[mine], rows.channel[mine])
