"""A gateway with too much in flight: one kind of request after the other gives way, in order, and what got in is finished."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from gateway.app import create_app
from gateway.limits import Limits
from gateway.shedding import GIVES_WAY_AT, Kind, Load, LoadShed, kind_of
from lake.metrics import MemoryMetrics
from tests.unit.gateway.conftest import EVERYTHING, META, World, client_of
from tests.unit.gateway.problems import problem_of

ORDER: list[Kind] = ["read", "change", "event", "urgent", "critical"]
URGENT = {"item_id": "i1", "users": ["u1"]}
ASKED: dict[str, tuple[str, str, Any]] = {
    "read": ("GET", "/v1/users/u1/follows", None),
    "change": ("PUT", "/v1/users/u1", {"timezone": "Europe/Berlin"}),
    "event": ("POST", "/v1/events", {"user_id": "u1", "kind": "visit"}),
    "urgent": ("POST", "/v1/urgent", URGENT),
    "critical": ("POST", "/v1/urgent", URGENT | {"critical": True}),
}


async def ask(client: httpx.AsyncClient, kind: str) -> httpx.Response:
    method, path, body = ASKED[kind]
    return await client.request(method, path, json=body)


async def refused_at(app: FastAPI, token: str, in_flight: int) -> list[str]:
    """Return the kinds that are refused while so many other requests are in flight."""
    with ExitStack() as others:
        for _ in range(in_flight):
            others.enter_context(app.state.load.held())
        async with client_of(app, token) as client:
            return [kind for kind in ORDER if (await ask(client, kind)).status_code == 503]


async def test_kinds_give_way_one_after_the_other_and_critical_requests_last(world: World) -> None:
    app = create_app(world.services(limits=Limits(requests_in_flight=10)))
    token = world.token(*EVERYTHING)
    assert [await refused_at(app, token, others) for others in (4, 5, 7, 8, 9, 10)] == [ORDER[:number] for number in range(6)]
    assert await refused_at(app, token, 0) == []
    assert app.state.load.in_flight == 0
    assert world.metrics.counters["tidings_shed_requests_total", (("kind", "read"),)] == 5
    assert list(GIVES_WAY_AT) == ORDER


async def test_who_gives_way_is_told_when_to_come_again_and_nothing_of_it_is_taken(world: World) -> None:
    app = create_app(world.services(limits=Limits(requests_in_flight=1)))
    with app.state.load.held():
        async with client_of(app, world.token(*EVERYTHING)) as client:
            answers = {kind: await ask(client, kind) for kind in ORDER}
    for answer in answers.values():
        assert problem_of(answer, 503)["type"].endswith(":shed")
        assert int(answer.headers["retry-after"]) >= 1
    assert int(answers["read"].headers["retry-after"]) > int(answers["critical"].headers["retry-after"])
    assert world.lane.calls == []
    assert all(world.events.read(shard, 10) == [] for shard in range(META.shards))


async def test_what_got_in_is_finished_however_much_comes_behind_it(world: World) -> None:
    """A hundred events at once at a gateway with room for eight of them: each is either on disk or was told to come again."""
    app = create_app(world.services(limits=Limits(requests_in_flight=10)))
    async with client_of(app, world.token("events")) as client:
        bodies = [{"user_id": "u1", "kind": "visit", "event_id": f"e{n}"} for n in range(100)]
        answers = await asyncio.gather(*(client.post("/v1/events", json=body) for body in bodies))
    kept = sum(answer.status_code == 202 for answer in answers)
    assert kept + sum(answer.status_code == 503 for answer in answers) == 100
    assert 0 < kept < 100
    assert sum(answer.json()["accepted"] for answer in answers if answer.status_code == 202) == kept
    assert app.state.load.in_flight == 0


async def test_health_is_told_and_unsubscribing_is_possible_when_reads_are_refused(world: World) -> None:
    app = create_app(world.services(limits=Limits(requests_in_flight=10)))
    with ExitStack() as others:
        for _ in range(9):
            others.enter_context(app.state.load.held())
        async with client_of(app) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/unsubscribe/nonsense")).status_code != 503
            problem_of(await client.get("/console/data"), 503)


@pytest.mark.parametrize(("media_type", "counted"), [(b"text/event-stream; charset=utf-8", 0), (b"application/json", 1)])
async def test_a_live_stream_takes_no_place_once_it_has_begun(media_type: bytes, counted: int) -> None:
    load, counts = Load(10, MemoryMetrics()), []

    async def streams(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type)]})
        await send({"type": "http.response.body", "body": b"data: 1"})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        counts.append(load.in_flight)

    await LoadShed(streams, load)({"type": "http", "method": "GET", "path": "/v1/users/u1/inbox"}, receive, send)
    assert counts == [counted, counted]
    assert load.in_flight == 0


def test_critical_rows_have_as_much_room_again(world: World) -> None:
    desk = create_app(world.services(limits=Limits(rows_in_flight=10))).state.desk
    with desk.room(10):
        with pytest.raises(Exception, match="in flight"), desk.room(1):
            pass
        with desk.room(10, critical=True), pytest.raises(Exception, match="in flight"), desk.room(1, critical=True):
            pass
    assert desk.rows_in_flight == 0
    desk.close()


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/console", "read"),
        ("POST", "/console/login", "read"),
        ("GET", "/docs", "read"),
        ("POST", "/v1/windows/dry-run", "read"),
        ("DELETE", "/v1/users/u1", "change"),
        ("POST", "/v1/users/u1/inbox/read", "change"),
        ("POST", "/v1/events", "event"),
        ("POST", "/unsubscribe/abc", "critical"),
        ("GET", "/r/abc", "event"),
        ("GET", "/o/abc", "event"),
    ],
)
def test_every_request_is_of_a_kind(method: str, path: str, kind: Kind) -> None:
    assert kind_of(method, path) == kind
