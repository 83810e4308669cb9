"""State as packed rows: what the store holds for a user, an item, an author and a topic, encoded and decoded many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import (
    AUTHOR_AFFINITY,
    AUTHOR_STATS,
    DIMENSIONS,
    ITEM_COUNTS,
    TEXT_DIMENSIONS,
    TOPIC_AFFINITY,
    TOPIC_STATS,
    USER_STATS,
    Lists,
    UserBlock,
)

USER = np.dtype(
    [
        ("authors", "<u4"),
        ("topics", "<u4"),
        ("as_of", "<f8"),
        ("epoch", "<f8"),
        ("vector", "<f4", (DIMENSIONS,)),
        ("text", "<f4", (TEXT_DIMENSIONS,)),
        ("stats", "<f4", (len(USER_STATS),)),
    ]
)
"""The head of a user's row: how many entries of each kind follow, the moment of the state, and that of its embedding."""
ENTRY = np.dtype([("key", "<u8"), ("values", "<f4", (len(AUTHOR_AFFINITY),))])
ITEM = np.dtype([("counts", "<f8", (len(ITEM_COUNTS),)), ("epoch", "<f8"), ("vector", "<f4", (DIMENSIONS,))])
AUTHOR = np.dtype([("stats", "<f4", (len(AUTHOR_STATS),)), ("vector", "<f4", (DIMENSIONS,)), ("audience", "<f4", (DIMENSIONS,))])
TOPIC = np.dtype([("stats", "<f4", (len(TOPIC_STATS),))])

Records = npt.NDArray[np.void]
assert len(AUTHOR_AFFINITY) == len(TOPIC_AFFINITY)


def blank_stats(n: int) -> npt.NDArray[np.float32]:
    """Return USER_STATS of people nobody has seen do anything, shape (n, len(USER_STATS))."""
    stats = np.zeros((n, len(USER_STATS)), np.float32)
    stats[:, [USER_STATS.index(name) for name in ("recency_h", "tenure_d", "latitude", "longitude")]] = np.nan
    stats[:, USER_STATS.index("item_age_log")] = 3.0
    return stats


def blank(kind: np.dtype[Any]) -> bytes:
    """Return the packed row of something nobody has seen, of one of the kinds USER, ITEM, AUTHOR, TOPIC."""
    row = np.zeros(1, kind)
    if kind == USER:
        row["stats"] = blank_stats(1)
    elif kind == ITEM:
        row["counts"][:, -1] = np.nan
    elif kind == AUTHOR:
        row["stats"][:, -1] = np.nan
    return row.tobytes()


def pack_users(users: UserBlock, epoch: float) -> list[bytes]:
    """Return one packed row per user; `epoch` is the moment the embedding was made."""
    head = np.zeros(len(users), USER)
    head["authors"], head["topics"] = np.diff(users.authors.start), np.diff(users.topics.start)
    head["as_of"], head["epoch"], head["vector"], head["text"] = users.as_of, epoch, users.vector, users.text
    head["stats"] = users.stats
    heads, (authors, topics) = head.tobytes(), (_entries(lists) for lists in (users.authors, users.topics))
    starts = [(lists.start * ENTRY.itemsize).tolist() for lists in (users.authors, users.topics)]
    return [
        heads[i * USER.itemsize : (i + 1) * USER.itemsize]
        + authors[starts[0][i] : starts[0][i + 1]]
        + topics[starts[1][i] : starts[1][i + 1]]
        for i in range(len(users))
    ]


def _entries(lists: Lists) -> bytes:
    entries = np.empty(len(lists.key), ENTRY)
    entries["key"], entries["values"] = lists.key, lists.values
    return entries.tobytes()


def unpack_users(packed: Sequence[bytes | None]) -> tuple[UserBlock, npt.NDArray[np.bool_]]:
    """Return the state of packed users and which of them were known; None is someone nobody has seen.

    So is a row that another version of Tidings wrote, until the next refresh.
    """
    nobody = blank(USER)
    rows = [nobody if row is None or len(row) < USER.itemsize else row for row in packed]
    head = np.frombuffer(b"".join([row[: USER.itemsize] for row in rows]), USER)
    counts = np.stack([head["authors"], head["topics"]], axis=1).astype(np.int64)
    size = np.fromiter(map(len, rows), np.int64, len(rows))
    foreign = np.flatnonzero(size != USER.itemsize + ENTRY.itemsize * counts.sum(axis=1))
    if len(foreign):
        strange = set(foreign.tolist())
        return unpack_users([None if place in strange else row for place, row in enumerate(packed)])
    known = np.array([row is not nobody for row in rows], bool)
    ends = (USER.itemsize + ENTRY.itemsize * counts[:, 0]).tolist()
    authors = b"".join([row[USER.itemsize : end] for row, end in zip(rows, ends, strict=True)])
    topics = b"".join([row[end:] for row, end in zip(rows, ends, strict=True)])
    block = UserBlock(
        np.ascontiguousarray(head["as_of"]),
        np.ascontiguousarray(head["stats"]),
        np.ascontiguousarray(head["vector"]),
        np.ascontiguousarray(head["text"]),
        _lists(authors, counts[:, 0]),
        _lists(topics, counts[:, 1]),
    )
    return block, known


def _lists(packed: bytes, counts: npt.NDArray[np.int64]) -> Lists:
    entries = np.frombuffer(packed, ENTRY)
    return Lists(np.append(0, np.cumsum(counts)), np.ascontiguousarray(entries["key"]), np.ascontiguousarray(entries["values"]))


def pack(records: Records) -> list[bytes]:
    """Return one packed row per record."""
    whole, size = records.tobytes(), records.dtype.itemsize
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def unpack(packed: Sequence[bytes | None], kind: np.dtype[Any]) -> Records:
    """Return the records of packed rows of one kind, shape (n,); None is a blank one."""
    nothing = blank(kind)
    return np.frombuffer(b"".join([nothing if row is None else row for row in packed]), kind)
