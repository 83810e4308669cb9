"""Which eligible, scored candidates go now: pure, vectorised, the same for both lanes.

Per user, rows are taken by descending value: a row is taken if it beats its threshold, its channel has allowance left,
its entity has not been taken on another row, and fewer than `top_n` rows have been taken. A row that may wait and will be worth
sending, and no less than now, in a later window of the user's is held for it instead, be it worth too little now.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lake.decisions import BELOW_THRESHOLD, DUPLICATE, HOLD, OVER_BUDGET, REASON, SEND
from lake.ids import Keys64

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DecideConfig:
    """`top_n`: most sends one window may make. `least_kept`: share of its value that a row planned for a later window must keep until
    then; an urgent row must be worth as much then as now, by what is known of the hours, or where nothing is, keep this share.
    """

    top_n: int = 3
    least_kept: float = 0.5


@dataclass(frozen=True)
class Rows:
    """Eligible, scored rows sorted by user.

    `user`: int32 codes, non-decreasing. `item`: int32 codes. `entity`: uint64 keys. `channel`: uint8 codes.
    `value`, `threshold`: float32. `value_later`: float32, the value in the user's next window, -inf where it
    can not wait (scheduled lane, or expired by then), +inf where it must (quiet hours). `critical`: bool, goes whatever the threshold, the
    allowance and the window say.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    entity: Keys64
    channel: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]
    threshold: npt.NDArray[np.float32]
    value_later: npt.NDArray[np.float32]
    critical: Bools

    def take(self, rows: Bools) -> Rows:
        """Return the given rows."""
        return Rows(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})


def decide(
    rows: Rows, allowance: npt.NDArray[np.int16], config: DecideConfig, places: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return each row's proposed disposition and reason, shape (n,).

    `allowance`: int16 (users, channels), units that may go now. `places`: int64 (users,), most sends of each user now where that is less
    than `top_n`. SEND is a proposal: the commit has the last word.
    """
    disposition = np.full(len(rows.user), BELOW_THRESHOLD, np.uint8)
    reason = np.full(len(rows.user), REASON["below_threshold"], np.uint8)
    if len(rows.user) == 0:
        return disposition, reason
    worthy = (rows.value >= rows.threshold) & ~rows.critical
    holds = can_wait(rows, config) & (worthy | (np.isfinite(rows.value_later) & ~rows.critical))
    disposition[holds] = HOLD
    reason[holds] = np.where(np.isposinf(rows.value_later[holds]), REASON["quiet_hours"], REASON["better_next_window"])
    contenders = worthy & ~holds
    taken, blocked = take_best(rows, contenders, allowance, config.top_n, places)
    disposition[contenders], reason[contenders] = OVER_BUDGET, REASON["window_full"]
    reason[contenders & blocked.spent] = REASON["budget_spent"]
    for repeats, why in ((blocked.same_item, "other_channel_better"), (blocked.same_entity, "same_entity_better")):
        disposition[contenders & repeats], reason[contenders & repeats] = DUPLICATE, REASON[why]
    disposition[taken], reason[taken] = SEND, REASON["above_threshold"]
    disposition[rows.critical], reason[rows.critical] = SEND, REASON["critical"]
    return disposition, reason


def can_wait(rows: Rows, config: DecideConfig) -> Bools:
    """Return which rows will still beat their threshold, and keep `least_kept` of their value, in the next window."""
    enough = np.maximum(rows.threshold, config.least_kept * rows.value)
    return np.asarray(rows.value_later >= enough, np.bool_)


@dataclass(frozen=True)
class Blocked:
    """Why contenders that were not taken were not, each bool (n,): their item or entity was taken, or their channel is spent."""

    same_item: Bools
    same_entity: Bools
    spent: Bools


def take_best(
    rows: Rows, contenders: Bools, allowance: npt.NDArray[np.int16], top_n: int, places: npt.NDArray[np.int64] | None = None
) -> tuple[Bools, Blocked]:
    """Return which contenders are taken, and what blocks the others, by one round per place in the window.

    Each round takes every user's best open row at once, so the number of rounds is `top_n`, not the number of rows.
    """
    left = allowance.astype(np.int32)
    starts = np.flatnonzero(np.diff(rows.user, prepend=rows.user[0] - 1))
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows.user)))
    taken = np.zeros(len(rows.user), bool)
    same_item, same_entity = np.zeros_like(taken), np.zeros_like(taken)
    for place in range(top_n):
        if places is not None:
            contenders = contenders & (places[rows.user] > place)
        open_rows = contenders & ~taken & ~same_entity & ~same_item & (left[rows.user, rows.channel] > 0)
        best = _best_per_group(rows.value, open_rows, starts, group)
        if len(best) == 0:
            break
        taken[best] = True
        left[rows.user[best], rows.channel[best]] -= 1
        mate = np.full(len(starts), -1, np.intp)
        mate[group[best]] = best
        mate = mate[group]
        related = (mate >= 0) & (rows.entity == rows.entity[mate]) & ~taken
        same_item |= related & (rows.item == rows.item[mate])
        same_entity |= related & (rows.item != rows.item[mate])
    spent = left[rows.user, rows.channel] <= 0
    return taken, Blocked(same_item, same_entity, spent)


def _best_per_group(
    value: npt.NDArray[np.float32], open_rows: Bools, starts: npt.NDArray[np.intp], group: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    worth = np.where(open_rows, value, -np.inf)
    best = np.maximum.reduceat(worth, starts)
    hits = np.flatnonzero(open_rows & (worth == best[group]))
    return hits[np.diff(group[hits], prepend=-1) > 0]
