"""What ranks while the guard is tripped: the rows without what is wrong in them, by a model that is good, at the volume of before. Pure.

A relief travels between replicas packed, in an alarm, and its answers carry its own mark in their model id: whoever gives one id gives
the same scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgpack
import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.bundle import Bundle, BundleError
from ranking.features import FEATURES
from ranking.guard import Guard
from ranking.reference import MOST_ROWS
from ranking.steadying import Draws, Steady
from ranking.value import value_of

MARK = "+guard-"
"""Between the id of a model and that of the relief that its scores went through."""
ANEW_S = 3600.0
"""How often the map of scores is drawn anew while a fault lasts, once it has seen enough rows; each is a model id of its own."""


def model_of(model_id: str) -> str:
    """Return the id of the model that an answer's id names, without the mark of a relief."""
    return model_id.partition(MARK)[0]


@dataclass(frozen=True)
class Relief:
    """`bundle`: the model to ask, under an id that names the relief, too. `watched`: which model served when its rows or scores went wrong.

    `columns`: features that are wrong, which get what is usual, `middle`. `steady`: moves its scores. `packed`: all that for others.
    """

    bundle: Bundle
    watched: str
    columns: npt.NDArray[np.intp]
    middle: Matrix
    steady: Steady
    packed: bytes

    @staticmethod
    def unpacked(packed: bytes, loaded: Callable[[str], Bundle]) -> Relief:
        """Return the relief that `pack` packed; `loaded`: gives a model by its id. Raises BundleError where it is of other features."""
        content = msgpack.unpackb(packed)
        if content["features"] != len(FEATURES):
            raise BundleError(f"the relief of another replica is of {content['features']} features, this Tidings computes {len(FEATURES)}")
        middle, found, wanted = (np.frombuffer(content[name], np.float32) for name in ("middle", "found", "wanted"))
        bundle = loaded(content["model"])
        marked = replace(bundle, model_id=f"{bundle.model_id}{MARK}{hashlib.sha256(packed).hexdigest()[:8]}")
        steady = Steady(found.reshape(-1, 2), wanted.reshape(-1, 2))
        return Relief(marked, content["watched"], np.array(content["columns"], np.intp), middle, steady, packed)

    def rows(self, rows: Matrix) -> Matrix:
        """Return feature rows without what is wrong."""
        return mended(rows, self.columns, self.middle)

    def scores(self, probability: Matrix, value: Matrix, draws: Draws) -> tuple[Matrix, Matrix]:
        """Return the scores at the volume of before."""
        steadied = self.steady(np.stack([probability, value], axis=1), draws)
        return np.ascontiguousarray(steadied[:, 0]), np.ascontiguousarray(steadied[:, 1])


def pack(model: str, watched: str, columns: npt.NDArray[np.intp], middle: Matrix, steady: Steady) -> bytes:
    """Return a relief as bytes: see Relief; `model`: the id of the model to ask."""
    content = {"model": model, "watched": watched, "columns": columns.tolist(), "features": len(FEATURES)}
    arrays = {"middle": middle, "found": steady.found, "wanted": steady.wanted}
    packed: bytes = msgpack.packb(content | {name: array.astype(np.float32).tobytes() for name, array in arrays.items()})
    return packed


def watched_by(packed: bytes) -> str:
    """Return which model served when a packed relief was made."""
    watched: str = msgpack.unpackb(packed)["watched"]
    return watched


def scores_of(bundle: Bundle, rows: Matrix) -> Matrix:
    """Return probability and value of feature rows by a bundle, float32 (n, 2)."""
    probability = bundle.probabilities(rows)
    return np.stack([probability, value_of(probability, bundle.opt_out.risks(rows), bundle.rule)], axis=1)


def mended(rows: Matrix, columns: npt.NDArray[np.intp], middle: Matrix) -> Matrix:
    """Return rows whose `columns` hold what is usual."""
    if not len(columns):
        return rows
    rows = rows.copy()
    rows[:, columns] = middle[columns]
    return rows


@dataclass
class Relieving:
    """Keeps the relief in step with a guard. `packed`: what is proposed to rank, b"" while all is well or too little is known."""

    packed: bytes = b""
    _columns: npt.NDArray[np.intp] | None = None
    _found: list[Matrix] = field(default_factory=list)
    _drawn_rows: int = 0
    _drawn_at: float = 0.0

    def after(self, block: Matrix, guard: Guard, serving: Bundle, before: Bundle | None, now: float) -> bytes:
        """Return what is to rank after a block (n, columns) was judged, packed.

        Where only scores are out, the model before, if there is one, is asked; wrong features would mislead it too.
        """
        if not guard.is_tripped or not guard.has_learned:
            self.packed, self._columns = b"", None
            return b""
        columns, width = np.flatnonzero(guard.out[: len(FEATURES)]), len(FEATURES)
        if self._columns is None or not np.array_equal(columns, self._columns):
            self._columns, self._drawn_rows = columns, 0
            self._found.clear()
        bundle = before if before is not None and not len(columns) else serving
        rows = np.ascontiguousarray(block[:, :width])
        self._found.append(scores_of(bundle, mended(rows, columns, guard.reference.middle)))
        while sum(map(len, self._found[1:])) >= MOST_ROWS:
            self._found.pop(0)
        known = sum(map(len, self._found))
        if not self._drawn_rows or known >= 2 * self._drawn_rows or now - self._drawn_at >= ANEW_S:
            self._drawn_rows, self._drawn_at = known, now
            steady = Steady.of(np.concatenate(self._found), guard.normal_scores)
            self.packed = pack(bundle.model_id, serving.model_id, columns, guard.reference.middle, steady)
        return self.packed
