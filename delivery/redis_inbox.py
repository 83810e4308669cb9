"""Inboxes in the store: a stream per user, so that a browser resumes where it left off, and a hash of versions and read marks."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

import msgpack
from redis import Redis, RedisError
from redis.client import PubSub

from delivery.inbox import CAPACITY, Bell, InboxEntry, order, wait_for_entries
from lake.ids import shard_of
from lake.keys import LAYOUT, Keys
from lake.redis_scripts import script_of

STATE = f"{Keys.INBOX}-state"
POLL_S = 1.0


class RedisInbox:
    """The inbox on a Redis-protocol server.

    Waiting costs the store nothing: one thread per process listens for additions, and wakes those who wait.
    """

    def __init__(self, client: Redis, keys: Keys, capacity: int = CAPACITY) -> None:
        self._client, self._keys, self._capacity = client, keys, capacity
        self._add, self._mark_read = script_of(client, "delivery", "add_inbox"), script_of(client, "delivery", "mark_read")
        self._bell = Bell()
        self._listener = _Listener(client, self._bell)

    def add(self, entries: Sequence[InboxEntry]) -> None:
        """See Inbox. One round trip per shard among the users."""
        by_shard: dict[int, list[InboxEntry]] = defaultdict(list)
        for entry in entries:
            by_shard[shard_of(entry.user_id, self._keys.shards)].append(entry)
        for shard, mine in by_shard.items():
            users = [entry.user_id for entry in mine]
            pairs = zip(*(self._keys.of_users(kind, users) for kind in (Keys.INBOX, STATE)), strict=True)
            names = [name for pair in pairs for name in pair]
            arguments: list[str | bytes | int] = [self._capacity, self._keys.of_shard(Keys.INBOX, shard)]
            for entry in mine:
                arguments += [entry.user_id, entry.entity, str(entry.version), _pack(entry)]
            self._add(names, arguments)

    def latest(self, user_id: str, limit: int = 50) -> list[InboxEntry]:
        """See Inbox."""
        stream, state = self._names(user_id)
        pipe = self._client.pipeline(transaction=False)
        pipe.xrevrange(stream, count=limit)
        pipe.hgetall(state)
        return _entries(user_id, *pipe.execute())

    def after(self, user_id: str, entry_id: str) -> list[InboxEntry]:
        """See Inbox."""
        order(entry_id)
        stream, state = self._names(user_id)
        pipe = self._client.pipeline(transaction=False)
        pipe.xrange(stream, f"({entry_id}" if entry_id else "-")
        pipe.hgetall(state)
        return _entries(user_id, *pipe.execute())

    def unread(self, user_id: str) -> int:
        """See Inbox."""
        return sum(not entry.read for entry in self.after(user_id, ""))

    def mark_read(self, user_id: str, entry_ids: Sequence[str] | None) -> int:
        """See Inbox."""
        wanted = [] if entry_ids is None else [entry_id for entry_id in dict.fromkeys(entry_ids) if _is_entry_id(entry_id)]
        if entry_ids is not None and not wanted:
            return 0
        return int(self._mark_read(self._names(user_id), wanted))

    def delete(self, user_ids: Sequence[str]) -> None:
        """See Inbox."""
        pipe = self._client.pipeline(transaction=False)
        for user_id in user_ids:
            pipe.delete(*self._names(user_id))
        pipe.execute()

    async def wait(self, user_id: str, entry_id: str, timeout_s: float) -> list[InboxEntry]:
        """See Inbox."""
        self._listener.start()
        return await wait_for_entries(self, self._bell, user_id, entry_id, timeout_s)

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()

    def _names(self, user_id: str) -> list[str]:
        return [self._keys.of_user(Keys.INBOX, user_id), self._keys.of_user(STATE, user_id)]


class _Listener:
    """One daemon thread that rings the bell of every user whose inbox grows, whichever process added to it."""

    def __init__(self, client: Redis, bell: Bell) -> None:
        self._client, self._bell = client, bell
        self._stopped = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="inbox-listener", daemon=True)
                self._thread.start()
        # Who looks at an inbox before the subscription stands could miss what is added in between.
        self._ready.wait(POLL_S)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py has no annotation here
                    pubsub.psubscribe(f"{LAYOUT}:{{*}}:{Keys.INBOX}")
                    self._ring(pubsub)
            except RedisError:
                # Those who wait look again when their time is up; meanwhile there is nothing to hear.
                self._ready.set()
                self._stopped.wait(POLL_S)

    def _ring(self, pubsub: PubSub) -> None:
        while not self._stopped.is_set():
            news = pubsub.get_message(timeout=POLL_S)
            if news is None:
                continue
            if news["type"] == "psubscribe":
                self._ready.set()
                self._bell.ring_all()
            elif news["type"] == "pmessage":
                self._bell.ring(news["data"].decode())


def _pack(entry: InboxEntry) -> bytes:
    kept = dict(entry.__dict__)
    del kept["entry_id"], kept["user_id"], kept["read"]
    return bytes(msgpack.packb(kept))


def _entries(user_id: str, rows: list[tuple[bytes, dict[bytes, bytes]]], state: dict[bytes, bytes]) -> list[InboxEntry]:
    return [_unpack(name.decode(), user_id, fields[b"m"], read=state.get(b"r" + fields[b"e"]) == name) for name, fields in rows]


def _unpack(entry_id: str, user_id: str, packed: bytes, *, read: bool) -> InboxEntry:
    fields = msgpack.unpackb(packed)
    fields["others"] = tuple(fields.get("others", ()))
    return InboxEntry(entry_id=entry_id, user_id=user_id, read=read, **fields)


def _is_entry_id(text: str) -> bool:
    try:
        return order(text) > (0, 0)
    except ValueError:
        return False
