"""From sources to candidates: merge what they propose, credit each row once, and spread it over channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates
from lake.items import ItemTable
from scheduler.sources.base import Source, UserChunk, at_most

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
    if len(sources) > 1:
        _, first = np.unique(user.astype(np.int64) * max(len(table.items), 1) + item, return_index=True)
        first = np.sort(first)
        first = first[np.argsort(user[first], kind="stable")]
        user, item, source = user[first], item[first], source[first]
    kept = at_most(user, max(limit // max(len(channels), 1), 1)) if len(user) else np.empty(0, bool)
    return _on_channels(users, table, user[kept], item[kept], source[kept], tuple(each.name for each in sources), channels)


def _on_channels(
    users: UserChunk,
    table: ItemTable,
    user: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    source: npt.NDArray[np.uint8],
    names: tuple[str, ...],
    channels: Sequence[int],
) -> Candidates:
    distinct, codes = np.unique(item, return_inverse=True)
    width = len(channels)
    return Candidates(
        users=users.user_ids,
        items=table.items.ids[distinct].tolist(),
        user=np.repeat(user, width),
        item=np.repeat(codes.astype(np.int32), width),
        channel=np.tile(np.asarray(channels, np.uint8), len(user)),
        source=np.repeat(source, width),
        sources=names,
        request=np.zeros(len(user) * width, np.int32),
    )
