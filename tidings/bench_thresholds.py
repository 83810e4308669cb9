"""`tidings bench thresholds`: how long updating the threshold of every user and channel takes, beside a sort of the day's values."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from budgets.keeping import Keeping
from budgets.thresholds import Cells, DayOfCells

GROUPS = 3
WARM_DAYS = 2
PEER_NAME = "one sort of the day's values by user, channel and value"


def run(cells: int, per_cell: int, step: Callable[[str], None], controller: Keeping) -> dict[str, Any]:
    """Return the seconds of a day's update after some days, and its peer's. `per_cell`: new values of a day per user and channel."""
    rng = np.random.default_rng(0)
    known = Cells(rng.uniform(2.0, 10.0, cells), rng.integers(0, GROUPS, cells).astype(np.int32))
    state = controller.start(known)
    for number in range(WARM_DAYS):
        step(f"day {number + 1} before the one that is measured")
        state = controller.step(state, _day(cells, per_cell, rng), known)
    day = _day(cells, per_cell, rng)
    step("the day that is measured")
    began, worked = time.perf_counter(), time.process_time()
    thresholds = controller.thresholds(controller.step(state, day, known))
    took_s, worked_s = time.perf_counter() - began, time.process_time() - worked
    began = time.perf_counter()
    np.lexsort((day.value, day.cell))
    return {
        "user_channels": cells,
        "values": len(day.value),
        "finite": int(np.isfinite(thresholds).sum()),
        "seconds": took_s,
        "processor_seconds": worked_s,
        "user_channels_per_s": cells / took_s,
        "peer_name": PEER_NAME,
        "peer_seconds": time.perf_counter() - began,
    }


def _day(cells: int, per_cell: int, rng: np.random.Generator) -> DayOfCells:
    cell = np.repeat(np.arange(cells, dtype=np.int32), per_cell)
    value = rng.beta(1.0, 8.0, len(cell)).astype(np.float32)
    sends = rng.poisson(0.8, cells).astype(np.float64)
    return DayOfCells(cell, value, np.ones(len(cell), bool), sends, True, np.ones(len(cell), np.float32))
