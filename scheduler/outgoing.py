"""The outbox messages of batches, packed as `Message.pack` does but a column at a time: the commit's hottest Python."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from lake.decisions import REASONS, SEND
from lake.ids import Keys64
from scheduler.commit import CommitBatch
from scheduler.parts import spans

FIELDS = 18
_MAP = b"\xde" + FIELDS.to_bytes(2, "big")
_TEXT_16, _UINT_32, _FLOAT_64 = b"\xb0", b"\xce", b"\xcb"
"""msgpack's marks of a string of 16 bytes, an unsigned 32-bit and a 64-bit floating-point number, both big-endian."""

_NUMBERS = (
    ("grant_id", _TEXT_16, "S16"),
    ("entity", _TEXT_16, "S16"),
    ("version", _UINT_32, ">u4"),
    ("probability", _FLOAT_64, ">f8"),
    ("value", _FLOAT_64, ">f8"),
    ("threshold", _FLOAT_64, ">f8"),
    ("deliver_by", _FLOAT_64, ">f8"),
)


def pack_messages(batches: Sequence[CommitBatch], channels: Sequence[str]) -> list[list[bytes]]:
    """Return the packed Message of each row of each batch, b"" for one that is to be held.

    The field `update` comes last, so that its byte, the last one, is all that the script changes in an update. What tells of several items
    is a thing of its own, whose entity is its grant; the script appends the items.
    """
    rows = Joined(batches)
    going = np.flatnonzero(rows.column("disposition") == SEND)
    parts = (
        _coded("user_id", *rows.coded("users", "user"), going),
        _coded("item_id", *rows.coded("items", "item"), going),
        _coded("channel", channels, rows.column("channel"), going),
        _coded("decision_id", *rows.coded("decision_ids", "request"), going),
        _coded("source", *rows.coded("sources", "source"), going),
        _coded("reason", REASONS, rows.column("reason"), going),
        _numbers(rows, going),
        _coded("critical", (False, True), rows.column("critical").astype(np.intp), going),
    )
    starts = [_MAP + _field("lane", batch.lane) + _field("model_id", batch.model_id) + _field("granted_at", batch.now) for batch in batches]
    of, end = rows.batch[going].tolist(), _field("update", False)
    messages = [b""] * len(rows)
    for row, batch, texts in zip(going.tolist(), of, zip(*parts, strict=True), strict=True):
        messages[row] = b"".join((starts[batch], *texts, end))
    return [messages[span] for span in rows.spans]


class Joined:
    """The rows of some batches laid end to end: a batch of a few rows costs as many calls as one of many. `batch`: of each row."""

    def __init__(self, batches: Sequence[CommitBatch]) -> None:
        self._batches = batches
        sizes = np.array([len(batch) for batch in batches], np.intp)
        self.batch = np.repeat(np.arange(len(batches)), sizes)
        self.spans = spans(np.append(0, np.cumsum(sizes)))

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def now(self) -> npt.NDArray[np.float64]:
        """When each row was decided."""
        return np.array([batch.now for batch in self._batches])[self.batch]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all rows."""
        return np.concatenate([getattr(batch, name) for batch in self._batches])

    @property
    def entity(self) -> Keys64:
        """What the message of each row is about, uint64 (n,)."""
        entity = self.column("entity")
        leads = [batch.digests.lead + span.start for batch, span in zip(self._batches, self.spans, strict=True) if len(batch.digests.lead)]
        if leads:
            entity[np.concatenate(leads)] = self.column("grant_id")[np.concatenate(leads)]
        return entity

    def coded(self, names: str, codes: str) -> tuple[Sequence[str], npt.NDArray[Any]]:
        """Return the batches' names, and each row's code among them."""
        lists = [getattr(batch, names) for batch in self._batches]
        if all(each is lists[0] for each in lists):
            return lists[0], self.column(codes)
        starts = np.cumsum([0, *map(len, lists)])[:-1]
        return [name for each in lists for name in each], self.column(codes) + starts[self.batch]


def _field(name: str, value: object) -> bytes:
    return _mark(name) + bytes(msgpack.packb(value))


def _coded(name: str, values: Sequence[object], codes: npt.NDArray[np.integer[Any]], rows: npt.NDArray[np.intp]) -> list[bytes]:
    """The packed field of each of some rows, packed once per distinct value."""
    used, mark, pack = codes[rows].tolist(), _mark(name), msgpack.Packer().pack
    packed = {code: mark + pack(values[code]) for code in set(used)}
    return [packed[code] for code in used]


@cache
def _mark(name: str) -> bytes:
    return bytes(msgpack.packb(name))


@cache
def _blank() -> npt.NDArray[np.void]:
    """One row of the numbers' names and marks, its numbers still to be filled in; made once."""
    marks = {name: _mark(name) + mark for name, mark, _ in _NUMBERS}
    row = np.zeros(1, [pair for name, _, kind in _NUMBERS for pair in ((f"{name}:", f"S{len(marks[name])}"), (name, kind))])
    for name, mark in marks.items():
        row[f"{name}:"] = mark
    return row


def _numbers(joined: Joined, rows: npt.NDArray[np.intp]) -> list[bytes]:
    table = np.repeat(_blank(), len(rows))
    for name, _, kind in _NUMBERS:
        column = (joined.entity if name == "entity" else joined.column(name))[rows]
        table[name] = _hex(column) if kind == "S16" else column
    packed, size = table.tobytes(), table.itemsize
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def _hex(keys: Keys64) -> npt.NDArray[np.bytes_]:
    return np.frombuffer(keys.astype(">u8").tobytes().hex().encode(), "S16")
