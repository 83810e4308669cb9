"""Signed links, the console and its login: what people and mail clients meet."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.api_keys import login_token
from gateway.app import create_app
from gateway.routes.console import COOKIE, SESSION_S
from tests.unit.gateway.conftest import META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with client_of(create_app(world.services())) as client:
        yield client


def _kept(world: World) -> list[tuple[str, str]]:
    return [(row["kind"], row["user_id"]) for shard in range(META.shards) for _, row in world.events.read(shard, 10)]


def _known(world: World, user_id: str) -> None:
    from lake.profiles import blank

    world.profiles.put([user_id], blank(1))


def _suppressed(world: World, user_id: str) -> int:
    return int(world.profiles.get([user_id])["suppressed"][0])


async def test_looking_at_an_unsubscribe_link_changes_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    _known(world, "u1")
    answer = await visitor.get(world.links.unsubscribe("u1", "email", "g1"), headers=BROWSER)
    assert answer.status_code == 200
    assert '<form method="post">' in answer.text
    assert "no-referrer" in answer.headers["referrer-policy"]
    assert _suppressed(world, "u1") == 0
    assert _kept(world) == []


@pytest.mark.parametrize("body", [b"List-Unsubscribe=One-Click", b""])
async def test_one_click_unsubscribes_from_that_channel_only(visitor: httpx.AsyncClient, world: World, body: bytes) -> None:
    _known(world, "u1")
    link = world.links.unsubscribe("u1", "email", "g1")
    for _ in range(2):
        answer = await visitor.post(link, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status_code == 200
    assert _suppressed(world, "u1") == 1 << META.channels.index("email")
    assert _kept(world) == [("unsubscribe", "u1")]


async def test_an_open_counts_once_and_shows_a_pixel(visitor: httpx.AsyncClient, world: World) -> None:
    for _ in range(2):
        answer = await visitor.get(world.links.open("u1", "email", "g1"))
        assert answer.headers["content-type"] == "image/gif"
        assert answer.content.startswith(b"GIF89a")
    assert _kept(world) == [("open", "u1")]


async def test_a_click_counts_and_goes_to_the_signed_address(visitor: httpx.AsyncClient, world: World) -> None:
    answer = await visitor.get(world.links.click("u1", "email", "g1", "https://example.org/a?b=c"))
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://example.org/a?b=c"
    assert _kept(world) == [("click", "u1")]


async def test_a_click_gets_through_while_the_store_is_away(world: World) -> None:
    class Away:
        def accept_link(self, *_: object) -> None:
            raise ConnectionError("refused")

    async with client_of(create_app(world.services(feedback=Away()))) as client:
        answer = await client.get(world.links.click("u1", "email", "g1", "https://example.org/"))
    assert answer.headers["location"] == "https://example.org/"


async def test_a_link_that_was_changed_does_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    unsubscribe, click = world.links.unsubscribe("u1", "email", "g1"), world.links.click("u1", "email", "g1", "https://example.org/")
    problem_of(await visitor.post(unsubscribe + "x"), 404)
    problem_of(await visitor.get(unsubscribe[:-2]), 404)
    problem_of(await visitor.get(click + "x"), 404)
    assert (await visitor.get(world.links.open("u1", "email", "g1") + "x")).content.startswith(b"GIF89a")
    page = await visitor.get(unsubscribe + "x", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert _kept(world) == []


async def test_a_token_of_one_kind_of_link_is_none_of_another(visitor: httpx.AsyncClient, world: World) -> None:
    token = world.links.open("u1", "email", "g1").rpartition("/")[2]
    problem_of(await visitor.post(f"/unsubscribe/{token}"), 404)
    assert _kept(world) == []


async def test_the_console_is_closed_to_whoever_has_no_key(visitor: httpx.AsyncClient) -> None:
    page = await visitor.get("/console")
    assert page.status_code == 401
    assert 'action="/console/login"' in page.text
    problem_of(await visitor.get("/console/data"), 401)


async def test_a_key_in_the_address_becomes_a_cookie_that_scripts_cannot_read(visitor: httpx.AsyncClient, world: World) -> None:
    answer = await visitor.get("/console", params={"key": world.token("read")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/console"))
    page = await visitor.get("/console")
    assert page.status_code == 200
    assert "Windows run" in page.text
    data = (await visitor.get("/console/data")).json()
    assert (data["windows"], data["sends"], data["at"]) == (3, {"urgent": {"in_app": 2}}, NOW)


async def test_a_key_typed_into_the_form_opens_the_console(visitor: httpx.AsyncClient, world: World) -> None:
    answer = await visitor.post("/console/login", data={"key": f" {world.token('read')} "})
    assert answer.status_code == 303
    assert (await visitor.get("/console/data")).status_code == 200
    await visitor.post("/console/logout")
    assert (await visitor.get("/console")).status_code == 401


@pytest.mark.parametrize("scope", ["urgent", "events", "users"])
async def test_a_key_that_may_not_look_does_not_open_it(visitor: httpx.AsyncClient, world: World, scope: str) -> None:
    answer = await visitor.get("/console", params={"key": world.token(scope)})
    assert answer.status_code == 403
    assert COOKIE not in visitor.cookies


async def test_a_login_link_works_once_and_for_a_while(visitor: httpx.AsyncClient, world: World) -> None:
    token = login_token(world.api_keys, world.clock.at)
    assert (await visitor.get("/console", params={"token": token})).status_code == 303
    assert (await visitor.get("/console/data")).status_code == 200
    async with client_of(create_app(world.services())) as another:
        assert (await another.get("/console", params={"token": token})).status_code == 401
    world.clock.at += SESSION_S
    async with client_of(create_app(world.services())) as later:
        later.cookies = visitor.cookies
        assert (await later.get("/console")).status_code == 401


async def test_a_login_link_opens_nothing_else(world: World) -> None:
    async with client_of(create_app(world.services()), login_token(world.api_keys, NOW)) as client:
        problem_of(await client.get("/v1/users/u1"), 403)
        problem_of(await client.get("/console/data"), 403)


async def test_old_sessions_are_swept_when_a_new_one_begins(visitor: httpx.AsyncClient, world: World) -> None:
    await visitor.get("/console", params={"token": login_token(world.api_keys, NOW)})
    world.clock.at = NOW + SESSION_S + 1
    await visitor.get("/console", params={"token": login_token(world.api_keys, world.clock.at)})
    assert [key.created_at for key in world.api_keys.all()] == [world.clock.at]


async def test_pages_load_nothing_from_elsewhere(visitor: httpx.AsyncClient, world: World) -> None:
    await visitor.get("/console", params={"key": world.token("read")})
    page = await visitor.get("/console")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    used = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"/console/console.css", "/console/console.js"} < set(used)
    assert all(each.startswith(("/", "data:")) for each in used)
    for name in ("console.css", "console.js"):
        asset = await visitor.get(f"/console/{name}")
        assert asset.status_code == 200
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", asset.text)
