"""Rows joined with the state of their own moment: features for training, replay and `tidings score`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lake.ids import combine
from ranking.blocks import Matrix
from ranking.features import FEATURES, Assembler
from ranking.offline import State
from ranking.past import Codes, Floats

ROWS_PER_CALL = 50_000


def features_at(state: State, user: Codes, item: Codes, channel: npt.NDArray[np.uint8], at: Floats) -> Matrix:
    """Return the features of (user, item, channel) rows as of each row's `at`, shape (n, len(FEATURES)), in the rows' order.

    `user`, `item`: codes into the state's Past, which must know all of them. Nothing at or after a row's `at` is used.
    """
    out = np.empty((len(user), len(FEATURES)), np.float32)
    for rows, matrix in feature_blocks(state, user, item, channel, at):
        out[rows] = matrix
    return out


def feature_blocks(
    state: State, user: Codes, item: Codes, channel: npt.NDArray[np.uint8], at: Floats
) -> Iterator[tuple[npt.NDArray[np.intp], Matrix]]:
    """Yield the features of all rows, see `features_at`, in blocks: the places of some rows, and their features."""
    refreshed_at = state.past.refreshed_at(at)
    order = np.argsort(refreshed_at, kind="stable")
    moments, starts = np.unique(refreshed_at[order], return_index=True)
    for as_of, low, high in zip(moments.tolist(), starts, np.append(starts, len(order))[1:], strict=True):
        for start in range(low, high, ROWS_PER_CALL):
            rows = order[start : min(start + ROWS_PER_CALL, high)]
            yield rows, _features_as_of(state, user[rows], item[rows], channel[rows], at[rows], as_of)


def _features_as_of(state: State, user: Codes, item: Codes, channel: npt.NDArray[np.uint8], at: Floats, as_of: float) -> Matrix:
    users, user_place = np.unique(user, return_inverse=True)
    _, first, item_place = np.unique(combine(item, at.view(np.int64)), return_index=True, return_inverse=True)
    assembler = Assembler(state.users(users, as_of), state.items(item[first], at[first], as_of))
    return assembler.rows(user_place.astype(np.int32), item_place.astype(np.int32), channel)
