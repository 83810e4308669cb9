"""What ranks while the guard is tripped: the rows without what is wrong in them, by a model that is good, at the volume of before. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.features import FEATURES
from ranking.guard import Guard
from ranking.reference import MOST_ROWS
from ranking.steadying import Draws, Steady
from ranking.value import value_of


@dataclass(frozen=True)
class Relief:
    """`bundle`: the model to ask. `columns`: features that are wrong, which get what is usual, `middle`. `steady`: moves its scores."""

    bundle: Bundle
    columns: npt.NDArray[np.intp]
    middle: Matrix
    steady: Steady

    def rows(self, rows: Matrix) -> Matrix:
        """Return feature rows without what is wrong."""
        return mended(rows, self.columns, self.middle)

    def scores(self, probability: Matrix, value: Matrix, draws: Draws) -> tuple[Matrix, Matrix]:
        """Return the scores at the volume of before."""
        steadied = self.steady(np.stack([probability, value], axis=1), draws)
        return np.ascontiguousarray(steadied[:, 0]), np.ascontiguousarray(steadied[:, 1])


def scores_of(bundle: Bundle, rows: Matrix) -> Matrix:
    """Return probability and value of feature rows by a bundle, float32 (n, 2)."""
    probability = bundle.probabilities(rows)
    return np.stack([probability, value_of(probability, bundle.opt_out.risks(rows))], axis=1)


def mended(rows: Matrix, columns: npt.NDArray[np.intp], middle: Matrix) -> Matrix:
    """Return rows whose `columns` hold what is usual."""
    if not len(columns):
        return rows
    rows = rows.copy()
    rows[:, columns] = middle[columns]
    return rows


@dataclass
class Relieving:
    """Keeps the relief in step with a guard."""

    _columns: npt.NDArray[np.intp] | None = None
    _found: list[Matrix] = field(default_factory=list)

    def after(self, block: Matrix, guard: Guard, serving: Bundle, before: Bundle | None) -> Relief | None:
        """Return what is to rank after a block (n, columns) was judged: None while all is well.

        Where only scores are out, the model before, if there is one, is asked; wrong features would mislead it too.
        """
        if not guard.is_tripped:
            self._columns = None
            return None
        columns, width = np.flatnonzero(guard.out[: len(FEATURES)]), len(FEATURES)
        if self._columns is None or not np.array_equal(columns, self._columns):
            self._columns = columns
            self._found.clear()
        bundle = before if before is not None and not len(columns) else serving
        rows = np.ascontiguousarray(block[:, :width])
        self._found.append(scores_of(bundle, mended(rows, columns, guard.reference.middle)))
        while sum(map(len, self._found[1:])) >= MOST_ROWS:
            self._found.pop(0)
        return Relief(bundle, columns, guard.reference.middle, Steady.of(np.concatenate(self._found), guard.normal_scores))
