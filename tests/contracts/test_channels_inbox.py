"""What every inbox promises: one entry per entity, in order, and nothing missed by who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from delivery.inbox import Inbox, InboxEntry, MemoryInbox
from delivery.redis_inbox import RedisInbox
from lake.keys import Keys

CAPACITY = 5


@pytest.fixture(params=["memory", "redis"])
def inbox(request: pytest.FixtureRequest) -> Iterator[Inbox]:
    if request.param == "memory":
        yield MemoryInbox(CAPACITY)
        return
    store: Redis = request.getfixturevalue("redis_client")
    inbox = RedisInbox(store, Keys(4), CAPACITY)
    yield inbox
    inbox.close()


def an_entry(number: int = 1, *, user_id: str = "u1", version: int = 0) -> InboxEntry:
    return InboxEntry("", user_id, f"{number:016x}", f"i{number}", f"e{number}", version, f"Title {number}", "text", "", "why", 5.0)


def test_entries_come_newest_first(inbox: Inbox) -> None:
    inbox.add([an_entry(1), an_entry(2), an_entry(3)])
    assert [entry.item_id for entry in inbox.latest("u1")] == ["i3", "i2", "i1"]
    assert [entry.item_id for entry in inbox.latest("u1", limit=2)] == ["i3", "i2"]


def test_an_entry_comes_back_as_it_was_added(inbox: Inbox) -> None:
    inbox.add([an_entry()])
    (entry,) = inbox.latest("u1")
    assert replace(entry, entry_id="") == an_entry()
    assert entry.entry_id


def test_users_do_not_see_each_other(inbox: Inbox) -> None:
    inbox.add([an_entry(user_id="u1"), an_entry(user_id="u2"), an_entry(2, user_id="u2")])
    assert len(inbox.latest("u1")) == 1
    assert len(inbox.latest("u2")) == 2
    assert inbox.latest("nobody") == []


def test_adding_again_changes_nothing(inbox: Inbox) -> None:
    inbox.add([an_entry(), an_entry()])
    before = inbox.latest("u1")
    inbox.mark_read("u1", None)
    inbox.add([an_entry()])
    assert [entry.entry_id for entry in inbox.latest("u1")] == [entry.entry_id for entry in before]
    assert inbox.unread("u1") == 0


def test_a_newer_version_replaces_the_entry_and_is_unread(inbox: Inbox) -> None:
    inbox.add([an_entry(1, version=1), an_entry(2)])
    inbox.mark_read("u1", None)
    inbox.add([an_entry(1, version=2)])
    entries = inbox.latest("u1")
    assert [(entry.item_id, entry.version, entry.read) for entry in entries] == [("i1", 2, False), ("i2", 0, True)]


def test_an_older_version_that_comes_late_is_dropped(inbox: Inbox) -> None:
    inbox.add([an_entry(version=2), an_entry(version=1)])
    assert [entry.version for entry in inbox.latest("u1")] == [2]


def test_the_oldest_entries_leave_when_the_inbox_is_full(inbox: Inbox) -> None:
    inbox.add([an_entry(number) for number in range(CAPACITY + 3)])
    assert [entry.item_id for entry in inbox.latest("u1", 100)] == ["i7", "i6", "i5", "i4", "i3"]
    inbox.add([an_entry(0)])  # what has left is new again
    assert inbox.latest("u1")[0].item_id == "i0"


def test_reading_counts_down_the_unread(inbox: Inbox) -> None:
    inbox.add([an_entry(1), an_entry(2), an_entry(3)])
    newest = inbox.latest("u1")[0].entry_id
    assert inbox.unread("u1") == 3
    assert inbox.mark_read("u1", [newest, newest, "9-9", "nonsense"]) == 1
    assert inbox.mark_read("u1", [newest]) == 0
    assert inbox.mark_read("u1", []) == 0
    assert inbox.unread("u1") == 2
    assert inbox.mark_read("u1", None) == 2
    assert inbox.unread("u1") == 0


def test_after_gives_what_was_added_since(inbox: Inbox) -> None:
    inbox.add([an_entry(1), an_entry(2)])
    first, second = inbox.after("u1", "")
    assert inbox.after("u1", first.entry_id) == [second]
    assert inbox.after("u1", second.entry_id) == []


@pytest.mark.parametrize("wrong", ["nonsense", "1-", "-1", "1-2-3", "1\r\n", "٣-0", "$", "("])
def test_what_is_no_entry_id_is_refused(inbox: Inbox, wrong: str) -> None:
    with pytest.raises(ValueError, match="not an inbox entry id"):
        inbox.after("u1", wrong)


def test_a_deleted_inbox_is_empty(inbox: Inbox) -> None:
    inbox.add([an_entry()])
    inbox.mark_read("u1", None)
    inbox.delete(["u1", "nobody"])
    assert inbox.latest("u1") == []
    inbox.add([an_entry()])
    assert inbox.unread("u1") == 1


async def test_who_waits_gets_what_is_there_already(inbox: Inbox) -> None:
    inbox.add([an_entry()])
    assert [entry.item_id for entry in await inbox.wait("u1", "", 5.0)] == ["i1"]


async def test_who_waits_is_woken_by_an_addition(inbox: Inbox) -> None:
    waiting = [asyncio.create_task(inbox.wait("u1", "", 30.0)) for _ in range(3)]
    other = asyncio.create_task(inbox.wait("u2", "", 30.0))
    await asyncio.to_thread(inbox.add, [an_entry()])
    assert [[entry.item_id for entry in entries] for entries in await asyncio.gather(*waiting)] == [["i1"]] * 3
    assert not other.done()
    await asyncio.to_thread(inbox.add, [an_entry(user_id="u2")])
    assert len(await other) == 1


async def test_who_waits_in_vain_gets_nothing(inbox: Inbox) -> None:
    assert await inbox.wait("u1", "", 0.05) == []


async def test_a_stream_resumes_where_it_was(inbox: Inbox) -> None:
    inbox.add([an_entry(1)])
    (seen,) = await inbox.wait("u1", "", 5.0)
    waiting = asyncio.create_task(inbox.wait("u1", seen.entry_id, 30.0))
    await asyncio.to_thread(inbox.add, [an_entry(2)])
    assert [entry.item_id for entry in await waiting] == ["i2"]


async def test_another_process_wakes_who_waits(redis_client: Redis) -> None:
    here, there = RedisInbox(redis_client, Keys(4)), RedisInbox(redis_client, Keys(4))
    waiting = asyncio.create_task(here.wait("u1", "", 30.0))
    await asyncio.to_thread(there.add, [an_entry()])
    assert len(await waiting) == 1
    here.close()
