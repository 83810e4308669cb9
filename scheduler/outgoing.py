"""The outbox messages of a batch, packed as `Message.pack` does but a column at a time: the commit's hottest Python."""

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


def pack_messages(batch: CommitBatch, channels: Sequence[str]) -> list[bytes]:
    """Return the packed Message of each row, b"" for one that is to be held.

    The field `update` comes last, so that its byte, the last one, is all that the script changes in an update.
    """
    going = np.flatnonzero(batch.disposition == SEND)
    shared = _MAP + _field("lane", batch.lane) + _field("model_id", batch.model_id) + _field("granted_at", batch.now)
    parts = (
        _coded("user_id", batch.users, batch.user[going]),
        _coded("item_id", batch.items, batch.item[going]),
        _coded("channel", channels, batch.channel[going]),
        _coded("decision_id", batch.decision_ids, batch.request[going]),
        _coded("source", batch.sources, batch.source[going]),
        _coded("reason", REASONS, batch.reason[going]),
        _numbers(batch, going),
        _coded("critical", (False, True), batch.critical[going].astype(np.intp)),
    )
    end = _field("update", False)
    messages = [b""] * len(batch)
    for row, texts in zip(going.tolist(), zip(*parts, strict=True), strict=True):
        messages[row] = b"".join((shared, *texts, end))
    return messages


def _field(name: str, value: object) -> bytes:
    return _mark(name) + bytes(msgpack.packb(value))


def _coded(name: str, values: Sequence[object], codes: npt.NDArray[np.integer[Any]]) -> list[bytes]:
    """The packed field of each row, packed once per distinct value."""
    used, mark, pack = codes.tolist(), _mark(name), msgpack.Packer().pack
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


def _numbers(batch: CommitBatch, rows: npt.NDArray[np.intp]) -> list[bytes]:
    table = np.repeat(_blank(), len(rows))
    for name, _, kind in _NUMBERS:
        column = getattr(batch, name)[rows]
        table[name] = _hex(column) if kind == "S16" else column
    packed, size = table.tobytes(), table.itemsize
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def _hex(keys: Keys64) -> npt.NDArray[np.bytes_]:
    return np.frombuffer(keys.astype(">u8").tobytes().hex().encode(), "S16")
