"""POST /v1/urgent: good requests, every kind of bad one, and repeated ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from gateway.api_keys import new_key
from gateway.app import create_app
from gateway.idempotency import decision_id_of
from gateway.limits import Limits
from ranking.popularity import MODEL_ID
from scheduler.lanes import UrgentRequest
from tests.unit.gateway.conftest import EVERYTHING, NOW, World, client_of
from tests.unit.gateway.problems import problem_of

BODY = {"item_id": "i1", "users": ["u1", "u2"], "channels": ["push"]}


def _lost(_: object) -> None:
    raise ConnectionError("refused")


def _records(world: World) -> list[tuple[str, str]]:
    return [(name, record.body_hash) for name, record in world.idempotency.records.items()]


async def test_every_user_and_channel_gets_a_row(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/urgent", json=BODY | {"channels": ["push", "in_app"]})
    assert answer.status_code == 202
    rows = answer.json()["results"]
    assert [(row["user_id"], row["channel"]) for row in rows] == [("u1", "push"), ("u1", "in_app"), ("u2", "push"), ("u2", "in_app")]
    assert rows[0].keys() == {"user_id", "channel", "disposition", "score", "threshold", "reason"}
    assert len(answer.json()["decision_id"]) == 32


async def test_a_user_named_twice_is_decided_once(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/urgent", json=BODY | {"users": ["u1", "u1"]})
    assert len(answer.json()["results"]) == 1


async def test_a_new_item_reaches_the_lane_with_its_times_in_seconds(client: httpx.AsyncClient, world: World) -> None:
    item = {"item_id": "i9", "created_at": "2023-11-14T22:13:20+00:00", "topics": ["a"], "title": "Hello", "colour": "red"}
    assert (await client.post("/v1/urgent", json={"item": item, "users": ["u1"]})).status_code == 202
    asked = world.lane.calls[0][0]
    assert asked.item == {"item_id": "i9", "created_at": NOW, "topics": ["a"], "title": "Hello", "colour": "red"}
    assert (asked.item_id, asked.channels, asked.critical) == ("i9", ("in_app",), False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"item_id": "i1", "users": []}, "users"),
        ({"item_id": "i1", "users": ["u"] * 10_001}, "users"),
        ({"item_id": "i\x00", "users": ["u"]}, "item_id"),
        ({"item_id": "i1", "users": ["u\r\nBcc: x"]}, "users[0]"),
        ({"item_id": "i1", "users": ["u"], "channels": ["pigeon"]}, "channels"),
        ({"item_id": "i1", "users": ["u"], "channels": []}, "channels"),
        ({"item_id": "i1", "users": ["u"], "chanels": ["push"]}, "chanels"),
        ({"item": {"item_id": "i", "created_at": "2023-11-14T22:13:20"}, "users": ["u"]}, "item.created_at"),
        ({"item": {"item_id": "i", "created_at": "2023-11-14T22:18:21Z"}, "users": ["u"]}, "item.created_at"),
        ({"item": {"item_id": "i", "expires_at": "2023-11-14"}, "users": ["u"]}, "item.expires_at"),
        ({"item": {"item_id": "i", "title": "a\r\nBcc: all@x"}, "users": ["u"]}, "item.title"),
        ({"item": {"item_id": "i", "text": "a\x00"}, "users": ["u"]}, "item.text"),
        ({"item": {"item_id": "i", "url": "javascript:alert(1)"}, "users": ["u"]}, "item.url"),
        ({"item": {"item_id": "i", "latitude": 91}, "users": ["u"]}, "item.latitude"),
        ({"item": {"item_id": "i", "deep": {"a": 1}}, "users": ["u"]}, "item.deep"),
        ({"item_id": "i1", "topic": "nobody-follows-this"}, "topic"),
        ({"item_id": "i1"}, "body"),
        ({"item_id": "i1", "users": ["u"], "topic": "t"}, "body"),
        ({"item_id": "i1", "item": {"item_id": "i1"}, "users": ["u"]}, "body"),
    ],
)
async def test_a_bad_body_names_the_field(client: httpx.AsyncClient, world: World, body: dict[str, Any], field: str) -> None:
    problem = problem_of(await client.post("/v1/urgent", json=body), 422)
    assert problem["errors"][0]["field"] == field
    assert field in problem["detail"]
    assert world.lane.granted == {}


async def test_the_limit_on_users_is_named(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.post("/v1/urgent", json={"item_id": "i1", "users": ["u"] * 10_001}), 422)
    assert "10000" in problem["detail"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(client: httpx.AsyncClient, value: str) -> None:
    body = f'{{"item": {{"item_id": "i", "latitude": {value}, "weight": {value}}}, "users": ["u"]}}'
    problem = problem_of(await client.post("/v1/urgent", content=body), 422)
    assert [error["field"] for error in problem["errors"]] == ["item.latitude", "item.weight"]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"item_id": "\\ud800", "users": ["u"]}', b"[]", b"null"])
async def test_what_is_not_json_or_not_an_object_is_refused(client: httpx.AsyncClient, raw: bytes) -> None:
    answer = await client.post("/v1/urgent", content=raw)
    problem_of(answer, 422 if raw in (b"[]", b"null") else 400)


async def test_a_body_of_two_mebibytes_is_refused(client: httpx.AsyncClient) -> None:
    problem_of(await client.post("/v1/urgent", content=b" " * (2 << 20)), 413)


async def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(client: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(32):
            yield b" " * (1 << 16)

    problem_of(await client.post("/v1/urgent", content=pieces()), 413)


async def test_a_topic_goes_to_its_followers(client: httpx.AsyncClient, world: World) -> None:
    world.lane.followers["t"] = ["u1", "u2", "u3"]
    answer = await client.post("/v1/urgent", json={"item_id": "i1", "topic": "t"})
    assert [row["user_id"] for row in answer.json()["results"]] == ["u1", "u2", "u3"]


async def test_a_topic_of_over_ten_thousand_followers_is_accepted_and_decided_later(client: httpx.AsyncClient, world: World) -> None:
    world.lane.followers["t"] = [f"u{i}" for i in range(10_001)]
    answer = await client.post("/v1/urgent", json={"item_id": "i1", "topic": "t"})
    assert answer.status_code == 202
    (decision_id,) = world.fanout.jobs
    assert answer.json() == {"decision_id": decision_id, "status": "accepted"}
    assert world.lane.calls == []


async def test_a_new_item_for_a_large_topic_is_put_once_so_that_it_can_be_cancelled_on_the_way(
    client: httpx.AsyncClient, world: World
) -> None:
    world.lane.followers["t"] = [f"u{i}" for i in range(10_001)]
    await client.post("/v1/urgent", json={"item": {"item_id": "new", "title": "Trains stop"}, "topic": "t"})
    (job,) = world.fanout.jobs.values()
    assert (job.request.item, job.request.item_id) == (None, "new")
    assert world.items.get(["new"]) == [{"item_id": "new", "title": "Trains stop", "created_at": NOW}]


async def test_an_item_from_the_future_is_refused_for_a_large_topic_too(client: httpx.AsyncClient, world: World) -> None:
    world.lane.followers["t"] = [f"u{i}" for i in range(10_001)]
    body = {"item": {"item_id": "new", "created_at": "2999-01-01T00:00:00Z"}, "topic": "t"}
    assert problem_of(await client.post("/v1/urgent", json=body), 422)["errors"][0]["field"] == "item.created_at"
    assert world.items.get(["new"]) == [None]
    assert world.fanout.jobs == {}


async def test_a_critical_request_needs_its_own_scope(world: World) -> None:
    app = create_app(world.services())
    async with client_of(app, world.token("urgent")) as client:
        problem = problem_of(await client.post("/v1/urgent", json=BODY | {"critical": True}), 403)
    assert "urgent:critical" in problem["detail"]
    assert world.lane.calls == []


async def test_a_request_carries_its_keys_own_quota_of_critical_sends(world: World) -> None:
    key, token = new_key(("urgent:critical",), NOW)
    world.api_keys.put(replace(key, critical_quota=7))
    async with client_of(create_app(world.services()), token) as client:
        assert (await client.post("/v1/urgent", json=BODY | {"critical": True})).status_code == 202
    asked = world.lane.calls[0][0]
    assert (asked.key_id, asked.critical_quota) == (key.id, 7)


async def test_a_dry_run_says_so_in_the_answer_and_in_every_row(client: httpx.AsyncClient, world: World) -> None:
    answer = await client.post("/v1/urgent", json=BODY | {"dry_run": True})
    assert answer.status_code == 202
    assert answer.json()["dry_run"]
    assert [row["dry_run"] for row in answer.json()["results"]] == [True, True]
    assert world.lane.granted == {}
    real = (await client.post("/v1/urgent", json=BODY)).json()
    assert "dry_run" not in real | real["results"][0]


async def test_an_answer_by_popularity_says_so(world: World) -> None:
    app = create_app(world.services())

    async def decide(request: UrgentRequest) -> Any:
        return replace(world.lane.decide([request], NOW)[0], model_id=MODEL_ID)

    app.state.decide = decide
    async with client_of(app, world.token("urgent")) as client:
        assert (await client.post("/v1/urgent", json=BODY)).json()["fallback"] == "popularity"


async def test_a_topic_too_large_to_answer_at_once_is_not_rehearsed(client: httpx.AsyncClient, world: World) -> None:
    world.lane.followers["t"] = [f"u{i}" for i in range(10_001)]
    problem = problem_of(await client.post("/v1/urgent", json={"item_id": "i1", "topic": "t", "dry_run": True}), 422)
    assert problem["errors"][0]["field"] == "dry_run"
    assert world.fanout.jobs == {}


async def test_a_store_that_is_away_answers_503(client: httpx.AsyncClient, world: World) -> None:
    world.lane.before = _lost
    answer = await client.post("/v1/urgent", json=BODY)
    problem_of(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


async def test_an_unexpected_error_says_nothing_of_the_inside(client: httpx.AsyncClient, world: World) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("password is hunter2")

    world.lane.before = broken
    assert "hunter2" not in (await client.post("/v1/urgent", json=BODY)).text
    problem_of(await client.post("/v1/urgent", json=BODY), 500)


async def test_more_rows_than_there_is_room_for_get_429(world: World) -> None:
    services = world.services(limits=Limits(rows_in_flight=3))
    app = create_app(services)
    with app.state.desk.room(2):
        async with client_of(app, world.token("urgent")) as client:
            answer = await client.post("/v1/urgent", json=BODY)
    problem_of(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert app.state.desk.rows_in_flight == 0


async def test_a_large_request_gets_in_where_nothing_else_is(world: World) -> None:
    app = create_app(world.services(limits=Limits(rows_in_flight=1)))
    async with client_of(app, world.token("urgent")) as client:
        assert (await client.post("/v1/urgent", json=BODY)).status_code == 202


async def test_a_repeated_request_gets_the_first_answer(client: httpx.AsyncClient, world: World) -> None:
    first = await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})
    again = await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    assert len(world.lane.calls) == 1


async def test_the_same_key_with_another_body_is_refused(client: httpx.AsyncClient, world: World) -> None:
    await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})
    problem_of(await client.post("/v1/urgent", json=BODY | {"users": ["u3"]}, headers={"Idempotency-Key": "k"}), 422)
    assert len(world.lane.calls) == 1


async def test_two_callers_may_use_the_same_idempotency_key(world: World) -> None:
    app = create_app(world.services())
    for token in (world.token("urgent"), world.token("urgent")):
        async with client_of(app, token) as client:
            assert (await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})).status_code == 202
    assert len(world.lane.calls) == 2


async def test_fifty_requests_at_once_with_one_key_are_one_decision(client: httpx.AsyncClient, world: World) -> None:
    answers = await asyncio.gather(*(client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"}) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len(world.lane.calls) == 1


async def test_a_request_that_failed_may_be_sent_again_at_once_and_is_the_same_decision(client: httpx.AsyncClient, world: World) -> None:
    world.lane.before = _lost
    problem_of(await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"}), 503)
    world.lane.before = lambda _: None
    assert (await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})).status_code == 202
    assert set(world.lane.granted.values()) == {decision_id_of(*next(iter(_records(world))))}


async def test_a_gateway_that_died_between_deciding_and_answering_leaves_one_set_of_grants(client: httpx.AsyncClient, world: World) -> None:
    first = await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})
    world.idempotency.records.update(
        {name: type(record)(record.body_hash, record.expires_at, NOW + 1) for name, record in world.idempotency.records.items()}
    )
    world.clock.at = NOW + 2
    again = await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": "k"})
    assert len(world.lane.calls) == 2
    assert again.json() == first.json()


async def test_a_request_whose_first_is_still_being_decided_is_told_to_come_back(world: World) -> None:
    app = create_app(world.services(limits=Limits(pending_wait_s=0.0)))
    body, deciding, decided = orjson.dumps(BODY), asyncio.Event(), asyncio.Event()

    async def slow(request: UrgentRequest) -> Any:
        deciding.set()
        await decided.wait()
        return world.lane.decide([request], NOW)[0]

    app.state.decide = slow
    async with client_of(app, world.token("urgent")) as client:
        first = asyncio.ensure_future(client.post("/v1/urgent", content=body, headers={"Idempotency-Key": "k"}))
        await deciding.wait()
        answer = await client.post("/v1/urgent", content=body, headers={"Idempotency-Key": "k"})
        decided.set()
        assert (await first).status_code == 202
    problem_of(answer, 409)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb"])
async def test_an_idempotency_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    problem_of(await client.post("/v1/urgent", json=BODY, headers={"Idempotency-Key": key}), 422)


async def test_latency_and_batch_size_are_measured(client: httpx.AsyncClient, world: World) -> None:
    await client.post("/v1/urgent", json=BODY)
    assert world.metrics.observed["tidings_urgent_batch_rows", ()] == [2]
    assert len(world.metrics.observed["tidings_urgent_latency_ms", ()]) == 1
    assert world.metrics.gauges["tidings_rows_in_flight", ()] == 0


def test_every_scope_of_the_fixture_exists() -> None:
    from gateway.api_keys import SCOPES

    assert set(EVERYTHING) == set(SCOPES)


async def test_a_channel_that_is_known_but_not_set_up_is_refused_before_it_is_decided(world: World) -> None:
    app = create_app(world.services(channels=("in_app",)))
    async with client_of(app, world.token(*EVERYTHING)) as client:
        problem = problem_of(await client.post("/v1/urgent", json=BODY), 422)
        assert problem["detail"].startswith("channels: no channel 'push' is set up here, only in_app;")
        assert (await client.post("/v1/urgent", json=BODY | {"channels": ["in_app"]})).status_code == 202
    assert len(world.lane.calls) == 1
    app.state.desk.close()
    app.state.health.close()
