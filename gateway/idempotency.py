"""Idempotency keys: a request sent again with the same key gets the answer of the first one, for a day.

A record is pending, with a hash of the body, from when the first request is taken on until its answer is kept. A pending
record whose lease has lapsed belongs to a gateway that died: the next request decides again, under the same decision id,
so what had been granted stays granted once.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

KEPT_S = 86_400.0
LEASE_S = 30.0
"""Longer than any request may take; shorter than anyone would wait before giving up."""
MAX_KEY_CHARS = 255


@dataclass(frozen=True)
class Turn:
    """What a request should do.

    `decide`: it is the first, or the first one's lease lapsed. `wait`: the first is being decided. `mismatch`: the key was
    used with another body. `answered`: `answer` is the first one's.
    """

    kind: Literal["decide", "wait", "mismatch", "answered"]
    answer: bytes = b""


class IdempotencyStore(Protocol):
    """Where records live. Every method is one atomic round trip; expiries are compared with `now` (seconds)."""

    def begin(self, name: str, body_hash: str, now: float) -> Turn:
        """Take a request on, or say why not. `name` is unique to the API key and its Idempotency-Key."""
        ...

    def finish(self, name: str, body_hash: str, answer: bytes, now: float) -> bytes:
        """Keep the answer of a request that was taken on; returns the answer to give: the one kept first."""
        ...

    def abandon(self, name: str, body_hash: str) -> None:
        """Let the next request with this key and body decide at once; an answer that was kept stays."""
        ...


def record_name(key_id: str, idempotency_key: str) -> str:
    """Return the name of a record: two callers may use the same Idempotency-Key."""
    return f"{key_id}:{idempotency_key}"


def hash_of(body: bytes) -> str:
    """Return the hash that two equal bodies share."""
    return hashlib.sha256(body).hexdigest()


def decision_id_of(name: str, body_hash: str) -> str:
    """Return the decision id of a request, the same on every retry, 32 hex digits."""
    return hashlib.blake2b(f"{name}\x1f{body_hash}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Record:
    """A record as kept; `answer` None while pending."""

    body_hash: str
    expires_at: float
    lease_until: float
    answer: bytes | None = None


@dataclass
class MemoryIdempotency:
    """Records in a dictionary, for tests."""

    records: dict[str, Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, name: str, body_hash: str, now: float) -> Turn:
        """See IdempotencyStore."""
        with self._lock:
            record = self.records.get(name)
            if record is None or record.expires_at <= now:
                self.records[name] = Record(body_hash, now + KEPT_S, now + LEASE_S)
                return Turn("decide")
            if record.body_hash != body_hash:
                return Turn("mismatch")
            if record.answer is not None:
                return Turn("answered", record.answer)
            if record.lease_until > now:
                return Turn("wait")
            self.records[name] = replace(record, lease_until=now + LEASE_S)
            return Turn("decide")

    def finish(self, name: str, body_hash: str, answer: bytes, now: float) -> bytes:
        """See IdempotencyStore."""
        with self._lock:
            record = self.records.get(name)
            if record is not None and record.body_hash == body_hash and record.expires_at > now and record.answer is not None:
                return record.answer
            self.records[name] = Record(body_hash, now + KEPT_S, now, answer)
            return answer

    def abandon(self, name: str, body_hash: str) -> None:
        """See IdempotencyStore."""
        with self._lock:
            record = self.records.get(name)
            if record is not None and record.body_hash == body_hash:
                self.records[name] = replace(record, lease_until=0.0)
