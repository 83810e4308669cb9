"""From sources to candidates: merge what they propose, credit each row once, and spread it over channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates
from lake.items import ItemTable
from scheduler.sources.base import Source, UserChunk, at_most, first_of_each

MAX_PER_USER = 500


def gather(
    users: UserChunk, sources: Sequence[Source], table: ItemTable, channels: Sequence[int], now: float, *, limit: int = MAX_PER_USER
) -> Candidates:
    """Return the candidates of a chunk of users, sorted by user.

    A row that several sources propose is credited to the first of them. At most `limit` rows per user, those of the
    first sources first.
    """
    proposed = [source.propose(users, table, now) for source in sources]
    user = np.concatenate([rows.user for rows in proposed] or [np.empty(0, np.int32)])
    item = np.concatenate([rows.item for rows in proposed] or [np.empty(0, np.int32)])
    source = np.repeat(np.arange(len(proposed), dtype=np.uint8), [len(rows.user) for rows in proposed])
    distinct, code = _coded(item, len(table.items))
    if len(sources) > 1:
        first = first_of_each(user.astype(np.int64) * len(distinct) + code, len(users.user_ids) * len(distinct))
        first = first[np.argsort(user[first], kind="stable")]
        user, code, source = user[first], code[first], source[first]
    kept = at_most(user, max(limit // max(len(channels), 1), 1)) if len(user) else np.empty(0, bool)
    width = len(channels)
    return Candidates(
        users=users.user_ids,
        items=table.items.ids[distinct].tolist(),
        user=np.repeat(user[kept], width),
        item=np.repeat(code[kept], width),
        channel=np.tile(np.asarray(channels, np.uint8), int(kept.sum())),
        source=np.repeat(source[kept], width),
        sources=tuple(each.name for each in sources),
        request=np.zeros(int(kept.sum()) * width, np.int32),
    )


def _coded(item: npt.NDArray[np.int32], items: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return the distinct rows of the item table, ascending, and each row's code among them."""
    there = np.zeros(items, bool)
    there[item] = True
    code = np.cumsum(there, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(there), code[item]
