"""The in-app inbox: what a user sees in the product, newest first, one row per entity, live over a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

CAPACITY = 200
"""Most entries kept per user; the oldest leave first."""


@dataclass(frozen=True)
class InboxEntry:
    """One notification in an inbox.

    `entry_id`: given by the inbox, grows with time, usable as an SSE event id; "" before it is added. `entity`,
    `version`: updates of one thing share the entity; the highest version is the one kept. `at`: epoch seconds. `others`: the further items
    of a digest.
    """

    entry_id: str
    user_id: str
    grant_id: str
    item_id: str
    entity: str
    version: int
    title: str
    text: str
    url: str
    why: str
    at: float
    read: bool = False
    others: tuple[str, ...] = ()


class Inbox(Protocol):
    """Where in-app notifications live. One round trip per call; unknown users have an empty inbox."""

    def add(self, entries: Sequence[InboxEntry]) -> None:
        """Add entries; a newer version replaces the entity's entry and is unread, the same or an older one changes nothing."""
        ...

    def latest(self, user_id: str, limit: int = 50) -> list[InboxEntry]:
        """Return a user's entries, newest first, one per entity."""
        ...

    def after(self, user_id: str, entry_id: str) -> list[InboxEntry]:
        """Return the entries added after `entry_id` ("" = all kept), oldest first; ValueError if it is no entry id."""
        ...

    def unread(self, user_id: str) -> int:
        """Return how many entries are unread."""
        ...

    def mark_read(self, user_id: str, entry_ids: Sequence[str] | None) -> int:
        """Mark entries read (None = all); return how many were unread. Unknown ids are ignored."""
        ...

    def delete(self, user_ids: Sequence[str]) -> None:
        """Forget users' inboxes."""
        ...

    async def wait(self, user_id: str, entry_id: str, timeout_s: float) -> list[InboxEntry]:
        """Return `after(user_id, entry_id)` as soon as it is not empty, or [] when `timeout_s` has passed."""
        ...


@dataclass
class Bell:
    """Wakes the coroutines, in any loop, that wait for one user's inbox; `ring` may be called from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = field(default_factory=dict)

    def listen(self, user_id: str) -> asyncio.Event:
        """Return an event of the running loop that the next ring for the user sets; hand it back to `leave`."""
        event = asyncio.Event()
        with self._lock:
            self._waiting.setdefault(user_id, set()).add((asyncio.get_running_loop(), event))
        return event

    def leave(self, user_id: str, event: asyncio.Event) -> None:
        """Stop listening."""
        with self._lock:
            waiting = self._waiting.get(user_id, set())
            waiting.discard((asyncio.get_running_loop(), event))
            if not waiting:
                self._waiting.pop(user_id, None)

    def ring(self, user_id: str) -> None:
        """Wake everyone who waits for the user."""
        with self._lock:
            waiting = list(self._waiting.get(user_id, ()))
        self._wake(waiting)

    def ring_all(self) -> None:
        """Wake everyone: something may have been missed."""
        with self._lock:
            waiting = [pair for pairs in self._waiting.values() for pair in pairs]
        self._wake(waiting)

    @staticmethod
    def _wake(waiting: Sequence[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


async def wait_for_entries(inbox: Inbox, bell: Bell, user_id: str, entry_id: str, timeout_s: float) -> list[InboxEntry]:
    """Return the entries after `entry_id` once there are any, or [] after `timeout_s`; listens before it looks, so none is missed."""
    event = bell.listen(user_id)
    try:
        async with asyncio.timeout(timeout_s):
            while not (entries := await asyncio.to_thread(inbox.after, user_id, entry_id)):
                await event.wait()
                event.clear()
            return entries
    except TimeoutError:
        return []
    finally:
        bell.leave(user_id, event)


@dataclass
class MemoryInbox:
    """Inboxes in dictionaries, for tests and replay."""

    capacity: int = CAPACITY
    _entries: dict[str, dict[str, InboxEntry]] = field(default_factory=dict)
    _bell: Bell = field(default_factory=Bell)
    _ids: int = 0

    def add(self, entries: Sequence[InboxEntry]) -> None:
        """See Inbox."""
        for entry in entries:
            kept = self._entries.setdefault(entry.user_id, {})
            same = next((old for old in kept.values() if old.entity == entry.entity), None)
            if same is not None and same.version >= entry.version:
                continue
            if same is not None:
                del kept[same.entry_id]
            self._ids += 1
            entry_id = f"{self._ids}-0"
            kept[entry_id] = replace(entry, entry_id=entry_id, read=False)
            while len(kept) > self.capacity:
                del kept[next(iter(kept))]
            self._bell.ring(entry.user_id)

    def latest(self, user_id: str, limit: int = 50) -> list[InboxEntry]:
        """See Inbox."""
        return list(self._entries.get(user_id, {}).values())[::-1][:limit]

    def after(self, user_id: str, entry_id: str) -> list[InboxEntry]:
        """See Inbox."""
        start = order(entry_id)
        return [entry for entry in self._entries.get(user_id, {}).values() if order(entry.entry_id) > start]

    def unread(self, user_id: str) -> int:
        """See Inbox."""
        return sum(not entry.read for entry in self._entries.get(user_id, {}).values())

    def mark_read(self, user_id: str, entry_ids: Sequence[str] | None) -> int:
        """See Inbox."""
        kept = self._entries.get(user_id, {})
        unread = [name for name in (kept if entry_ids is None else dict.fromkeys(entry_ids)) if name in kept and not kept[name].read]
        kept.update({name: replace(kept[name], read=True) for name in unread})
        return len(unread)

    def delete(self, user_ids: Sequence[str]) -> None:
        """See Inbox."""
        for user_id in user_ids:
            self._entries.pop(user_id, None)

    async def wait(self, user_id: str, entry_id: str, timeout_s: float) -> list[InboxEntry]:
        """See Inbox."""
        return await wait_for_entries(self, self._bell, user_id, entry_id, timeout_s)


def order(entry_id: str) -> tuple[int, int]:
    """Return the sort key of an entry id ("" comes first); raises ValueError if it is none."""
    if not entry_id:
        return (0, 0)
    milliseconds, dash, number = entry_id.partition("-")
    if not (milliseconds.isdecimal() and (number.isdecimal() if dash else True) and entry_id.isascii() and len(entry_id) <= 40):
        raise ValueError(f"{entry_id!r} is not an inbox entry id such as 1700000000000-0")
    return (int(milliseconds), int(number or 0))
