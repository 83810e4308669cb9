"""The outbox in the store: a stream per shard with one consumer group, its attempt marks, its retries and its dead letters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import msgpack
from redis import Redis

from delivery.outbox import (
    GROUP,
    Attempt,
    Backlog,
    DeadLetter,
    Entry,
    Forgotten,
    Outcome,
    OutcomeRecord,
    Retry,
    Standing,
    attempts_of,
    letter_facts,
)
from delivery.redis_streams import read_stream
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.metrics import outcome_field
from lake.redis_rewriting import rewrite_stream
from lake.redis_scripts import script_of

RETRIES = f"{Keys.OUTBOX}-retries"
OUTCOMES_KEPT = 100_000
DEAD_LETTERS_KEPT = 100_000
"""Per shard, about: the audit's long memory is the history, and dead letters are for people to look at."""

ALL = 10_000_000
"""Entries of a stream read at once where a person is looked for."""

UNREADABLE = "the message could not be read"


class RedisOutbox:
    """The outbox on a Redis-protocol server. Each call is one script on one shard's keys."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._read, self._attempt = script_of(client, "delivery", "read_outbox"), script_of(client, "delivery", "attempt")
        self._settle, self._retry_later = script_of(client, "delivery", "settle"), script_of(client, "delivery", "retry_later")
        self._replay, self._forget = script_of(client, "delivery", "replay"), script_of(client, "delivery", "forget")

    def read(self, shard: int, consumer: str, count: int, now: float, abandoned_after_ms: int) -> list[Entry]:
        """See Outbox."""
        keys = self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS, RETRIES)
        rows = self._read(keys, [GROUP, consumer, count, repr(now), abandoned_after_ms])
        entries, unreadable = [], []
        for entry_id, packed, tried, marked in rows:
            message = _unpack(packed)
            if message is None:
                unreadable.append((entry_id, packed))
            else:
                entries.append(Entry(entry_id.decode(), message, _tried(tried), bool(marked), consumer))
        if unreadable:
            self._bury(shard, consumer, unreadable, now)
        return entries

    def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
        """See Outbox."""
        arguments = [GROUP, consumer, repr(now), *(entry.entry_id for entry in entries)]
        return _flags(self._attempt(self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS), arguments))

    def settle(self, shard: int, outcomes: Sequence[Outcome], now: float) -> list[bool]:
        """See Outbox."""
        arguments: list[str | bytes] = []
        for outcome in outcomes:
            message = outcome.entry.message
            dead = (message.pack(), _facts(outcome.detail, outcome.entry.attempts, now)) if outcome.dead else (b"", b"")
            counter = outcome_field(message.channel, outcome.state)
            arguments += [outcome.entry.entry_id, outcome.holder, outcome.packed(now), counter, *dead]
        return self._run_settle(shard, arguments)

    def retry_later(self, shard: int, retries: Sequence[Retry]) -> list[bool]:
        """See Outbox."""
        arguments: list[str | bytes] = [GROUP]
        for retry in retries:
            arguments += [retry.entry.entry_id, retry.entry.holder, repr(retry.due_at), _put_aside(retry.entry)]
        return _flags(self._retry_later(self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS, RETRIES), arguments))

    def backlog(self, shards: Sequence[int], now: float = math.inf) -> list[Backlog]:
        """See Outbox."""
        pipe = self._client.pipeline(transaction=False)
        for shard in shards:
            outbox, retries = self._names(shard, Keys.OUTBOX, RETRIES)
            pipe.xlen(outbox)
            pipe.xpending(outbox, GROUP)
            pipe.zcard(retries)
            pipe.zcount(retries, "-inf", now)
        # A shard that was never read has no group yet: that answer alone may be an error.
        answers = pipe.execute(raise_on_error=False)
        return [_backlog(*answers[place : place + 4]) for place in range(0, len(answers), 4)]

    def outcomes(self, shard: int, after: str, count: int) -> list[tuple[str, OutcomeRecord]]:
        """See Outbox."""
        entries = read_stream(self._client, self._keys.of_shard(Keys.OUTCOMES, shard), count, after)
        return [(name, OutcomeRecord.unpack(fields[b"o"])) for name, fields in entries]

    def dead(self, shard: int, count: int) -> list[DeadLetter]:
        """See Outbox."""
        entries = read_stream(self._client, self._keys.of_shard(Keys.DEAD, shard), count)
        return [_letter(shard, name, fields) for name, fields in entries]

    def replay(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """See Outbox."""
        return _flags(self._replay(self._names(shard, Keys.OUTBOX, Keys.DEAD), list(letter_ids)))

    def drop(self, shard: int, letter_ids: Sequence[str]) -> list[bool]:
        """See Outbox."""
        pipe = self._client.pipeline(transaction=False)
        for letter_id in letter_ids:
            pipe.xdel(self._keys.of_shard(Keys.DEAD, shard), letter_id)
        return _flags(pipe.execute())

    def waiting(self, shard: int) -> list[Message]:
        """See Outbox."""
        stream, retries = self._names(shard, Keys.OUTBOX, RETRIES)
        packed = [fields.get(FIELD.encode(), b"") for _, fields in read_stream(self._client, stream, ALL)]
        packed += [_parts_of(member)[1] for member in self._put_back(retries)]
        return [message for message in map(_unpack, packed) if message is not None]

    def standing(self, shard: int, grant_id: str) -> Standing | None:
        """See Outbox."""
        stream, marks, retries = self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS, RETRIES)
        for name, fields in read_stream(self._client, stream, ALL):
            if _is_message(fields.get(FIELD.encode(), b""), grant_id):
                mark = cast(bytes | None, self._client.hget(marks, name))
                return Standing(_tried(fields.get(b"t", b"")), None, None if mark is None else float(mark))
        put_back = cast(list[tuple[bytes, float]], self._client.zrange(retries, 0, -1, withscores=True))
        parted = ((*_parts_of(member), due_at) for member, due_at in put_back)
        return next((Standing(_tried(tried), due_at) for tried, packed, due_at in parted if _is_message(packed, grant_id)), None)

    def forget(self, shard: int, user_id: str) -> Forgotten:
        """See Outbox. A message that cannot be read is forgotten where its bytes hold the user's id."""
        stream, marks, retries, outcomes, dead = self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS, RETRIES, Keys.OUTCOMES, Keys.DEAD)
        waiting = cast(int, self._forget([stream, marks, retries], [GROUP, user_id]))
        ended, letters = self._of_user(outcomes, "o", user_id), self._of_user(dead, FIELD, user_id)
        rewrite_stream(self._client, stream)
        if ended:  # nobody else deletes outcomes, and there may be many
            rewrite_stream(self._client, outcomes, ended)
        rewrite_stream(self._client, dead, letters)
        return Forgotten(waiting, len(ended), len(letters))

    def _put_back(self, retries: str) -> list[bytes]:
        return cast(list[bytes], self._client.zrange(retries, 0, -1))

    def _of_user(self, stream: str, field: str, user_id: str) -> list[str]:
        """Return the ids of the entries of a stream that are about a user."""
        entries = read_stream(self._client, stream, ALL)
        return [name for name, fields in entries if _is_of(fields.get(field.encode(), b""), user_id)]

    def _names(self, shard: int, *kinds: str) -> list[str]:
        return [self._keys.of_shard(kind, shard) for kind in kinds]

    def _run_settle(self, shard: int, arguments: Sequence[str | bytes]) -> list[bool]:
        keys = self._names(shard, Keys.OUTBOX, Keys.ATTEMPTS, Keys.OUTCOMES, Keys.DEAD, Keys.METRICS)
        return _flags(self._settle(keys, [GROUP, OUTCOMES_KEPT, DEAD_LETTERS_KEPT, *arguments]))

    def _bury(self, shard: int, consumer: str, unreadable: Iterable[tuple[bytes, bytes]], now: float) -> None:
        # An entry nobody can read would otherwise come back for ever; its bytes stay in the dead letter.
        record = OutcomeRecord("", "", "", "", "", "", "failed", UNREADABLE, "", (), 0.0, now).pack()
        arguments: list[str | bytes] = []
        for entry_id, packed in unreadable:
            arguments += [entry_id, consumer, record, outcome_field("", "failed"), packed or b"\xc0", _facts(UNREADABLE, 0, now)]
        self._run_settle(shard, arguments)


def _unpack(packed: bytes) -> Message | None:
    try:
        return Message.unpack(packed)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return None


def _is_of(packed: bytes, user_id: str) -> bool:
    """Return whether a packed message or outcome is about a user; of what cannot be read, whether the id is in it."""
    needle = user_id.encode()
    if needle not in packed:
        return False
    try:
        return bool(msgpack.unpackb(packed)["user_id"] == user_id)
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException):
        return True


def _is_message(packed: bytes, grant_id: str) -> bool:
    """Return whether a packed message is the one of a grant."""
    message = _unpack(packed) if grant_id.encode() in packed else None
    return message is not None and message.grant_id == grant_id


def _put_aside(entry: Entry) -> bytes:
    """Return a message that is tried again as it is kept: the length of its packed attempts, these, and the packed message."""
    tried = bytes(msgpack.packb(entry.tried)) if entry.tried else b""
    return b"%d:%b%b" % (len(tried), tried, entry.message.pack())


def _parts_of(member: bytes) -> tuple[bytes, bytes]:
    """Return the packed attempts and the packed message of what waits to be tried again."""
    length, _, rest = member.partition(b":")
    return rest[: int(length)], rest[int(length) :]


def _tried(packed: bytes) -> tuple[Attempt, ...]:
    return attempts_of(msgpack.unpackb(packed)) if packed else ()


def _letter(shard: int, letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(shard, letter_id, _unpack(fields[FIELD.encode()]), **msgpack.unpackb(fields[b"f"]))


def _facts(reason: str, attempts: int, now: float) -> bytes:
    return bytes(msgpack.packb(letter_facts(reason, attempts, now)))


def _backlog(length: int, pending: dict[str, int] | Exception, retrying: int, due: int) -> Backlog:
    in_hand = 0 if isinstance(pending, Exception) else pending["pending"]
    return Backlog(length - in_hand, in_hand, retrying, due)


def _flags(answers: Sequence[int]) -> list[bool]:
    return [answer == 1 for answer in answers]
