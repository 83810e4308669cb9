"""Names that a body's schema does not know: refused, or kept where a table may have more columns, but never a slip of one it knows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.gateway.conftest import World
from tests.unit.gateway.problems import problem_of


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "column"),
    [
        ("PUT", "/v1/users/ann", {"timezon": "Europe/Berlin"}, "timezon", "timezone"),
        ("PUT", "/v1/users/ann", {"timeZone": "Europe/Berlin"}, "timeZone", "timezone"),
        ("PUT", "/v1/users/ann", {"tz": "Europe/Berlin"}, "tz", "timezone"),
        ("PUT", "/v1/users/ann", {"lat": 52.5, "lng": 13.4}, "lat", "latitude"),
        ("PUT", "/v1/items/i", {"titel": "Hi"}, "titel", "title"),
        ("PUT", "/v1/items/i", {"title": "Hi", "topic": ["tea"]}, "topic", "topics"),
        ("POST", "/v1/events", {"user_id": "ann", "kind": "open", "itemid": "i"}, "itemid", "item_id"),
        ("POST", "/v1/events", [{"user_id": "ann", "kind": "a"}, {"user_id": "a", "kind": "b", "chanel": "c"}], "[1].chanel", "channel"),
        (
            "POST",
            "/v1/urgent",
            {"item": {"item_id": "i", "expires": "2030-01-01T00:00:00Z"}, "users": ["ann"]},
            "item.expires",
            "expires_at",
        ),
        ("POST", "/v1/urgent", {"item_id": "i", "users": ["ann"], "critcal": True}, "critcal", "critical"),
        ("POST", "/v1/windows/dry-run", {"users": ["ann"], "user": 1}, "user", "users"),
        ("PUT", "/v1/users/ann/preferences", [{}, {"chanel": "email"}], "[1].chanel", "channel"),
        ("PUT", "/v1/users/ann/follows", {"topic": []}, "topic", "topics"),
        ("POST", "/v1/users/ann/inbox/read", {"entry_id": []}, "entry_id", "entry_ids"),
    ],
)
async def test_a_slip_is_refused_with_the_name_that_was_meant(
    client: httpx.AsyncClient, world: World, method: str, path: str, body: Any, field: str, column: str
) -> None:
    (problem,) = problem_of(await client.request(method, path, json=body), 422)["errors"]
    assert problem["field"] == field
    assert problem["problem"].endswith(f"is {column} meant?")
    assert (world.items.rows, world.user_rows.rows, world.enrolled) == ({}, {}, [])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/urgent", {"item_id": "i", "users": ["ann"], "colour": "red"}),
        ("PUT", "/v1/users/ann/follows", {"colour": "red"}),
        ("POST", "/v1/users/ann/inbox/read", {"colour": "red"}),
    ],
)
async def test_what_resembles_nothing_is_refused_without_advice(client: httpx.AsyncClient, method: str, path: str, body: Any) -> None:
    problem = problem_of(await client.request(method, path, json=body), 422)
    assert problem["errors"] == [{"field": "colour", "problem": "there is no such field"}]


async def test_a_table_may_have_columns_of_its_own(client: httpx.AsyncClient, world: World) -> None:
    assert (await client.put("/v1/users/ann", json={"timezone": "Europe/Berlin", "nickname": "Ann"})).status_code == 204
    assert (await client.get("/v1/users/ann")).json()["nickname"] == "Ann"
    assert (await client.put("/v1/items/i", json={"title": "Hi", "author": "Ann", "colour": "red"})).status_code == 204
    assert (await client.put("/v1/items/j", json={"topics": ["tea"], "topic": "tea"})).status_code == 204
    event = {"user_id": "ann", "kind": "view", "referrer": "mail", "session": 7}
    assert (await client.post("/v1/events", json=event)).json() == {"accepted": 1, "duplicates": 0}


async def test_a_body_that_names_somebody_or_something_else_than_its_path_is_refused(client: httpx.AsyncClient, world: World) -> None:
    assert problem_of(await client.put("/v1/users/ann", json={"user_id": "bob"}), 422)["errors"][0]["field"] == "user_id"
    assert problem_of(await client.put("/v1/items/i", json={"item_id": "j"}), 422)["errors"][0]["field"] == "item_id"
    assert (world.items.rows, world.user_rows.rows) == ({}, {})
    assert (await client.put("/v1/users/ann", json={"user_id": "ann", "locale": "de"})).status_code == 204
    assert (await client.get("/v1/users/ann")).json() == {"user_id": "ann", "locale": "de"}
    assert world.user_rows.get("ann") == {"locale": "de"}
    assert (await client.put("/v1/items/i", json={"item_id": "i"})).status_code == 204
