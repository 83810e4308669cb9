"""A granted notification on its way: the entry of an outbox stream, as the commit writes it and the courier reads it."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

FIELD = "m"
"""The one field of an outbox stream entry: a msgpack map with the field names of Message."""


@dataclass(frozen=True)
class Message:
    """One grant and what its audit needs.

    `grant_id`: 16 hex digits. `entity`: 16 hex digits, the key shared by updates of one thing. `update`: replaces an
    earlier, unopened notification of the same entity. Times are epoch seconds; `deliver_by` inf: no limit.
    """

    grant_id: str
    user_id: str
    item_id: str
    channel: str
    entity: str
    version: int
    update: bool
    decision_id: str
    lane: str
    source: str
    reason: str
    model_id: str
    probability: float
    value: float
    threshold: float
    granted_at: float
    deliver_by: float
    critical: bool = False

    @staticmethod
    def unpack(packed: bytes) -> Message:
        """Return the message of a packed stream field."""
        return Message(**msgpack.unpackb(packed))

    def pack(self) -> bytes:
        """Return the message as the value of a stream field."""
        return bytes(msgpack.packb(self.__dict__))
