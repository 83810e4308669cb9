"""What a model is fitted on: rows with their features, every target they can be fitted to, and the decision each competes in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.examples import Rows
from ranking.features import NO_CHANNEL
from ranking.join import features_at
from ranking.labels import DAY_S, LabelRule, collapsed, discounted, graded, local_day
from ranking.offline import State
from ranking.past import Bools, Floats, Past
from ranking.sent import Engagements

Ints = npt.NDArray[np.int64]

ALIVE, BORN, SENT = 0, 1, 2
"""Where a row comes from: an item that is alive at a moment, an item at its birth, a send."""
ORIGINS = 3


@dataclass(frozen=True)
class TrainingSet:
    """Rows, their `channel` codes, `origin` and `matrix` of features; `targets` by name, each float (n,).

    `engaged`: 0 or 1. `graded`: the worth of the best engagement. `discounted`: 1 / n by the user's day, NaN for what
    an earlier row of the same entity and day stands for. `decision`: codes; rows of one compete for the same place.
    """

    rows: Rows
    channel: npt.NDArray[np.uint8]
    origin: npt.NDArray[np.uint8]
    decision: Ints
    day: Ints
    matrix: Matrix
    targets: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def of(state: State, rows: Rows, channel: npt.NDArray[np.uint8], is_sent: Bools, rule: LabelRule) -> TrainingSet:
        """Return rows with everything that fitting needs; `is_sent`: which rows are sends."""
        past = state.past
        origin = np.where(is_sent, SENT, np.where(rows.at == past.items.created_at[rows.item], BORN, ALIVE)).astype(np.uint8)
        day = _local_days(past, rows)
        return TrainingSet(
            rows=rows,
            channel=channel,
            origin=origin,
            decision=decisions(past, rows, origin, day),
            day=day,
            matrix=features_at(state, rows.user, rows.item, channel, rows.at),
            targets={
                "engaged": rows.label.astype(np.float64),
                "graded": graded_target(past, rows, rule),
                "discounted": discounted_target(past, rows, origin, day),
            },
        )


def candidates_only(rows: Rows) -> tuple[npt.NDArray[np.uint8], Bools]:
    """Return the channels (none is known) and the mark that none is a send, of rows that could have been told."""
    return np.full(len(rows), NO_CHANNEL, np.uint8), np.zeros(len(rows), bool)


def decisions(past: Past, rows: Rows, origin: npt.NDArray[np.uint8], day: Ints) -> Ints:
    """Return which decision each row belongs to: a user's choice of items that day, or the choice of an item's audience at its birth."""
    at_birth = rows.at == past.items.created_at[rows.item]
    of_user = (rows.user.astype(np.int64) << 24) + day
    codes: Ints = (np.where(at_birth, rows.item.astype(np.int64), of_user) * 2 + at_birth) * ORIGINS + origin
    return codes


def graded_target(past: Past, rows: Rows, rule: LabelRule) -> Floats:
    """Return the worth of each row's best engagement within the window, at least the least worth where the row is engaged with.

    A send can be known to be engaged with by its own mark alone, which tells no kind.
    """
    worth = np.unique(past.worth[past.worth > 0])
    engaged = np.flatnonzero(rows.label)
    user, item, at = rows.user[engaged], rows.item[engaged], rows.at[engaged]
    first = [Engagements(past, past.worth == level).next_at(user, item, at) for level in worth]
    target = np.zeros(len(rows))
    if len(worth):
        target[engaged] = np.maximum(graded(at, np.stack(first, axis=1), worth, rule), worth[0])
    return target


def discounted_target(past: Past, rows: Rows, origin: npt.NDArray[np.uint8], day: Ints) -> Floats:
    """Return 1 / n of each relevant row by its user's day, each origin by itself; NaN for rows collapsed into an earlier one."""
    entity, user, own_day = past.items.entity[rows.item], rows.user.astype(np.int64), day * ORIGINS + origin
    _, thing = np.unique(np.where(entity != 0, entity, rows.item.astype(np.uint64)), return_inverse=True)
    kept, place = collapsed(user, own_day, thing.ravel().astype(np.int64), rows.at)
    relevant = np.bincount(place, rows.label, len(kept)) > 0
    target = np.full(len(rows), np.nan)
    target[kept] = discounted(user[kept], own_day[kept], relevant)
    return target


def _local_days(past: Past, rows: Rows) -> Ints:
    """Return each row's day where its user is, by the offset in force when that UTC day began."""
    midnight = np.floor(rows.at / DAY_S) * DAY_S
    offset = np.empty(len(rows))
    order = np.argsort(midnight, kind="stable")
    days, starts = np.unique(midnight[order], return_index=True)
    for day, part in zip(days.tolist(), np.split(order, starts[1:]), strict=True):
        offset[part] = past.offsets_at(day)[rows.user[part]]
    return local_day(rows.at, offset)
