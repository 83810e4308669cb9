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
    earlier, unopened notification of the same entity. Times are epoch seconds; `deliver_by` inf: no limit. `digest`: the further items
    that it tells of, each with its grant (16 hex digits), `digest_by` the rule that brought them together.
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
    digest_by: str = ""
    digest: tuple[tuple[str, str], ...] = ()

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items it tells of, the first of them the one it was granted for."""
        return (self.item_id, *(item_id for item_id, _ in self.digest))

    @property
    def grant_ids(self) -> tuple[str, ...]:
        """The grants it fulfils, of `item_ids`."""
        return (self.grant_id, *(grant_id for _, grant_id in self.digest))

    @staticmethod
    def unpack(packed: bytes) -> Message:
        """Return the message of a packed stream field."""
        fields = dict(msgpack.unpackb(packed))
        fields["digest"] = tuple((item_id, grant_id) for item_id, grant_id in fields.get("digest", ()))
        return Message(**fields)

    def pack(self) -> bytes:
        """Return the message as the value of a stream field."""
        return bytes(msgpack.packb({name: value for name, value in self.__dict__.items() if value or name not in _OPTIONAL}))


_OPTIONAL = ("digest_by", "digest")
"""Fields that most messages lack, and then do not carry."""
