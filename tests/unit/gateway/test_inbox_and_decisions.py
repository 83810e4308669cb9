"""Inboxes, as a list and as a stream, and the decision log."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from delivery.feedback import drain_events
from delivery.inbox import InboxEntry
from delivery.outbox import Outcome, Retry, State
from gateway.app import create_app
from lake.decision_log import DecisionLog, pack
from lake.decisions import REASON, SEND, Candidates, Decided
from lake.history import History
from lake.ids import shard_of
from lake.user_keys import keyed
from tests.unit.delivery.examples import a_message
from tests.unit.gateway.conftest import META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of


@pytest.fixture(autouse=True)
def _items(world: World) -> None:
    world.items.put([{"item_id": f"i{number}", "created_at": NOW} for number in range(9)])


def _entry(number: int, *others: str) -> InboxEntry:
    says = (f"Title {number}", "text", "", "you follow it", NOW)
    return InboxEntry("", "u1", f"g{number}", f"i{number}", f"e{number}", 0, *says, others=others)


async def test_what_is_deleted_leaves_inboxes_and_what_is_unread_and_streams(client: httpx.AsyncClient, world: World) -> None:
    world.inbox.add([_entry(1), _entry(2), _entry(3, "i8"), _entry(4, "i7")])
    assert (await client.get("/v1/users/u1/inbox")).json()["unread"] == 4
    for item_id in ("i1", "i8"):
        assert (await client.delete(f"/v1/items/{item_id}")).status_code == 204
    answer = (await client.get("/v1/users/u1/inbox", params={"limit": 2})).json()
    assert [entry["title"] for entry in answer["entries"]] == ["Title 4", "Title 2"]
    assert answer["unread"] == 2
    assert [event["title"] for event in await _streamed(world, 2, {"Accept": "text/event-stream"})] == ["Title 2", "Title 4"]


async def test_an_inbox_lists_the_newest_first_and_what_is_unread(client: httpx.AsyncClient, world: World) -> None:
    world.inbox.add([_entry(1), _entry(2)])
    answer = (await client.get("/v1/users/u1/inbox")).json()
    assert [entry["title"] for entry in answer["entries"]] == ["Title 2", "Title 1"]
    assert answer["unread"] == 2
    assert len((await client.get("/v1/users/u1/inbox", params={"limit": 1})).json()["entries"]) == 1


async def test_entries_are_marked_as_read(client: httpx.AsyncClient, world: World) -> None:
    world.inbox.add([_entry(1), _entry(2)])
    newest = world.inbox.latest("u1")[0].entry_id
    assert (await client.post("/v1/users/u1/inbox/read", json={"entry_ids": [newest, "77-7"]})).json() == {"marked": 1}
    assert (await client.get("/v1/users/u1/inbox")).json()["unread"] == 1
    assert (await client.post("/v1/users/u1/inbox/read", json={})).json() == {"marked": 1}


async def _streamed(world: World, wanted: int, headers: dict[str, str], query: str = "") -> list[dict[str, Any]]:
    """Return the first events of a stream, read straight from the application, since httpx waits for its end."""
    app, token = create_app(world.services()), world.token("users")
    raw = [(name.lower().encode(), value.encode()) for name, value in {"authorization": f"Bearer {token}", **headers}.items()]
    path = "/v1/users/u1/inbox"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": raw}
    got, enough, asked = bytearray(), asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.extend(message.get("body", b""))
        if got.count(b"event: notification") >= wanted:
            enough.set()

    await asyncio.wait_for(app({**scope, "http_version": "1.1", "scheme": "http", "server": ("t", 80)}, receive, send), 20)
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in got.decode().split("\r\n\r\n") if "data: " in block]
    return [{"id": block["id"], **orjson.loads(block["data"])} for block in blocks]


async def test_a_stream_shows_what_there_is_and_then_what_comes(world: World) -> None:
    world.inbox.add([_entry(1)])
    asyncio.get_running_loop().call_later(0.05, lambda: world.inbox.add([_entry(2)]))
    events = await _streamed(world, 2, {"Accept": "text/event-stream"})
    assert [event["title"] for event in events] == ["Title 1", "Title 2"]
    assert [event["id"] for event in events] == [event["entry_id"] for event in events]


async def test_a_stream_goes_on_after_the_last_event_seen(world: World) -> None:
    world.inbox.add([_entry(1), _entry(2), _entry(3)])
    seen = world.inbox.after("u1", "")[0].entry_id
    events = await _streamed(world, 2, {"Last-Event-ID": seen}, query="stream=1")
    assert [event["title"] for event in events] == ["Title 2", "Title 3"]


async def test_a_last_event_id_that_is_none_is_refused(world: World) -> None:
    async with client_of(create_app(world.services()), world.token("users")) as client:
        answer = await client.get("/v1/users/u1/inbox?stream=1", headers={"Last-Event-ID": "yesterday"})
    problem_of(answer, 422)


def _decided(world: World) -> None:
    n = 3
    rows = Candidates(
        users=["u1", "u2"],
        items=["i1", "i2"],
        user=np.array([0, 0, 1], np.int32),
        item=np.array([0, 1, 0], np.int32),
        channel=np.zeros(n, np.uint8),
        source=np.zeros(n, np.uint8),
        sources=("urgent",),
        request=np.array([0, 1, 1], np.int32),
    )
    value = np.array([0.5, np.nan, 0.25], np.float32)
    decided = Decided(
        candidates=rows,
        probability=value,
        value=value,
        threshold=np.zeros(n, np.float32),
        propensity=np.ones(n, np.float32),
        allowance=np.full(n, 3, np.int16),
        disposition=np.full(n, SEND, np.uint8),
        reason=np.full(n, REASON["above_threshold"], np.uint8),
        grant_id=np.arange(1, n + 1, dtype=np.uint64),
        decision_ids=["d1", "d2"],
        lane="urgent",
        model_id="m1",
        at=NOW,
    )
    everything = np.arange(n)
    blob = pack(decided, META.channels, everything, everything, np.ones(n, np.float32))
    world.stream.append(shard_of("u1", META.shards), blob, bytes([SEND, REASON["above_threshold"]] * n))


async def test_decisions_are_found_by_user_by_decision_and_by_both(client: httpx.AsyncClient, world: World) -> None:
    _decided(world)

    async def found(**query: str) -> list[tuple[str, str]]:
        answer = await client.get("/v1/decisions", params=query)
        return [(row["user_id"], row["item_id"]) for row in answer.json()["decisions"]]

    assert await found(user_id="u1") == [("u1", "i1"), ("u1", "i2")]
    assert await found(decision_id="d2") == [("u1", "i2"), ("u2", "i1")]
    assert await found(decision_id="d2", user_id="u2") == [("u2", "i1")]
    assert await found(decision_id="unknown") == []
    assert await found(user_id="u1", limit="1") == [("u1", "i1")]


async def test_a_decision_row_says_what_it_was_decided_on(client: httpx.AsyncClient, world: World) -> None:
    _decided(world)
    rows = (await client.get("/v1/decisions", params={"user_id": "u1"})).json()["decisions"]
    assert rows[0]["at"] == "2023-11-14T22:13:20+00:00"
    assert (rows[0]["probability"], rows[0]["allowance"], rows[0]["model_id"], rows[0]["disposition"]) == (0.5, 3, "m1", "send")
    assert rows[1]["probability"] is None


@pytest.mark.parametrize("scope", ["users", "events"])
async def test_decisions_are_not_for_every_key(world: World, scope: str) -> None:
    async with client_of(create_app(world.services()), world.token(scope)) as client:
        problem_of(await client.get("/v1/decisions", params={"user_id": "u1"}), 403)


def _delivered(world: World, *states: State) -> None:
    """Deliver u1's first message at NOW + 5, and again after each outcome but the last."""
    shard = shard_of("u1", META.shards)
    for number, state in enumerate(states):
        world.outbox.add(shard, [a_message(1, user_id="u1", granted_at=NOW)])
        (entry,) = world.outbox.read(shard, "a", 1, NOW, 1000)
        detail = "503 busy" if state == "failed" else ""
        world.outbox.settle(shard, [Outcome(entry.answered(NOW + 5 + number, detail), state, detail, "p-1")], NOW + 5 + number)


async def _story(client: httpx.AsyncClient, grant: int = 1, user_id: str = "u1") -> httpx.Response:
    return await client.get(f"/v1/messages/{grant:016x}", params={"user_id": user_id})


async def test_one_query_tells_a_messages_whole_story_before_and_after_its_parts_are_filed(client: httpx.AsyncClient, world: World) -> None:
    _decided(world)
    assert (await _story(client)).json()["status"] == "queued"
    _delivered(world, "failed", "accepted")
    event = {"user_id": "u1", "item_id": "i1", "send_id": f"{1:016x}"}
    for second, kind in enumerate(("open", "click", "join"), 10):
        await client.post("/v1/events", json=event | {"kind": kind, "at": f"2023-11-14T22:13:{20 + second}Z"})
    await client.post("/v1/events", json=event | {"kind": "like", "send_id": f"{2:016x}"})
    whole = (await _story(client)).json()
    steps = [(step["step"], step["at"][17:19]) for step in whole["story"]]
    assert whole["status"] == "accepted"
    assert steps == [
        *(("decided", "20"), ("queued", "20"), ("attempted", "25"), ("failed", "25"), ("attempted", "26"), ("accepted", "26")),
        *(("opened", "30"), ("clicked", "31"), ("engaged", "32")),
    ]
    assert whole["story"][3]["detail"] == "503 busy"
    history = History(str(world.folder))
    for shard in range(META.shards):
        drain_events(
            world.events,
            shard,
            lambda rows, at, first, last: history.file("events", keyed(rows, world.user_keys), at="at", shard=at, first=first, last=last),
        )
        DecisionLog(world.stream, history, world.user_keys, META.shards).drain(shard)
    assert (await _story(client)).json() == whole


async def test_a_message_that_is_not_delivered_yet_tells_its_attempts_and_when_it_is_tried_again(
    client: httpx.AsyncClient, world: World
) -> None:
    _decided(world)
    shard = shard_of("u1", META.shards)
    world.outbox.add(shard, [a_message(1, user_id="u1", granted_at=NOW)])
    (entry,) = world.outbox.read(shard, "a", 1, NOW, 1000)
    world.outbox.attempt(shard, "a", [entry], NOW + 2)
    under_way = (await _story(client)).json()
    assert [(step["step"], step["at"][17:19]) for step in under_way["story"][1:]] == [("queued", "20"), ("attempted", "22")]
    world.outbox.retry_later(shard, [Retry(entry.answered(NOW + 2, "451 busy"), NOW + 30)])
    waiting = (await _story(client)).json()
    assert waiting["story"][2:] == [
        {"step": "attempted", "at": "2023-11-14T22:13:22+00:00", "attempts": 1, "detail": "451 busy"},
        {"step": "retrying", "at": "2023-11-14T22:13:50+00:00", "attempts": 1},
    ]
    assert (under_way["status"], waiting["status"]) == ("queued", "queued")
    (again,) = world.outbox.read(shard, "a", 1, NOW + 30, 1000)
    world.outbox.settle(shard, [Outcome(again.answered(NOW + 30, "550"), "failed", "550", dead=True)], NOW + 31)
    ended = (await _story(client)).json()["story"]
    assert [(step["step"], step["at"][17:19]) for step in ended[1:]] == [
        *(("queued", "20"), ("attempted", "22"), ("attempted", "50"), ("failed", "51")),
    ]
    world.outbox.replay(shard, [letter.letter_id for letter in world.outbox.dead(shard, 9)])
    (replayed,) = world.outbox.read(shard, "a", 1, NOW + 40, 1000)
    world.outbox.attempt(shard, "a", [replayed], NOW + 40)
    assert [step["step"] for step in (await _story(client)).json()["story"]][4:] == ["failed", "attempted"]


async def test_another_users_message_is_not_found_and_what_is_no_grant_is_refused(client: httpx.AsyncClient, world: World) -> None:
    _decided(world)
    _delivered(world, "accepted")
    problem_of(await _story(client, user_id="u2"), 404)
    problem_of(await _story(client, grant=9), 404)
    problem_of(await client.get("/v1/messages/xyz", params={"user_id": "u1"}), 422)
    problem_of(await client.get(f"/v1/messages/{1:016x}"), 422)
    async with client_of(create_app(world.services()), world.token("users")) as other:
        problem_of(await _story(other), 403)
