"""A granted notification on its way: the entry of an outbox stream, as the commit writes it and the courier reads it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

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
        return (self.item_id, *(item_id for item_id, _ in self.digest)) if self.digest else (self.item_id,)

    @property
    def grant_ids(self) -> tuple[str, ...]:
        """The grants it fulfils, of `item_ids`."""
        return (self.grant_id, *(grant_id for _, grant_id in self.digest))

    @staticmethod
    def unpack(packed: bytes) -> Message:
        """Return the message of a packed stream field."""
        found = dict(msgpack.unpackb(packed))
        if "digest" in found:
            found["digest"] = tuple((item_id, grant_id) for item_id, grant_id in found["digest"])
        if _REQUIRED <= found.keys() <= _NAMES:
            # As Message(**found), which sets one frozen field after the other: the most of what reading costs.
            message = object.__new__(Message)
            message.__dict__.update(_DEFAULTS)
            message.__dict__.update(found)
            return message
        return Message(**found)

    def pack(self) -> bytes:
        """Return the message as the value of a stream field."""
        return bytes(msgpack.packb({name: value for name, value in self.__dict__.items() if value or name not in _OPTIONAL}))


_OPTIONAL = ("digest_by", "digest")
"""Fields that most messages lack, and then do not carry."""

_DEFAULTS = {each.name: each.default for each in fields(Message) if each.default is not MISSING}
_NAMES = frozenset(each.name for each in fields(Message))
_REQUIRED = _NAMES - _DEFAULTS.keys()
