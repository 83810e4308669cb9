"""The compiled loop of `forest.py`: rows are walked in step, block by block, so that the processor has many walks to do at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.compiled import compiled

BLOCK = 64
"""Rows walked in step: their values stay in the processor's nearest memory."""


def _walk_rows(
    rows: Any, places: Any, fill: Any, roots: Any, depths: Any, column: Any, threshold: Any, left: Any, value: Any, base: Any
) -> Any:
    """Return the margins of rows, float32 (n,), summed tree by tree as XGBoost sums them.

    A leaf leads to itself: its threshold is not a number, which nothing reaches. Unsigned numbers, since for others the compiler
    has to ask at each access whether they count from the end.
    """
    width = len(places)
    margins = np.empty(len(rows), np.float32)
    values = np.empty((width, BLOCK), np.float32)
    node, total = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    for start in range(0, len(rows), BLOCK):
        here = min(BLOCK, len(rows) - start)
        for row in range(BLOCK):
            total[row] = base
            given = rows[start + min(row, here - 1)]
            for place in range(width):
                found = given[places[place]]
                values[place, row] = fill[place] if np.isnan(found) else found
        for tree in range(len(roots)):
            for row in range(BLOCK):
                node[row] = roots[tree]
            for _ in range(depths[tree]):
                for row in range(BLOCK):
                    at = np.uintp(node[row])
                    goes_right = values[np.uintp(column[at]), np.uintp(row)] >= threshold[at]
                    node[row] = left[at] + np.uint32(goes_right)
            for row in range(BLOCK):
                total[row] += value[np.uintp(node[row])]
        margins[start : start + here] = total[:here]
    return margins


walk: Any = compiled(_walk_rows)
