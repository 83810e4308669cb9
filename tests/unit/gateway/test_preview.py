"""The console's preview: what a message would say, for whoever may look."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.app import create_app
from gateway.routes.console import COOKIE
from lake.profiles import blank
from tests.unit.gateway.conftest import NOW, World, client_of

ASKED = {"item": "room-1", "user": "ann"}


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with the console open; a room of two speakers, and ann, who reads German."""
    rooms = [{"item_id": f"room-{n}", "entity_id": "room", "version": n, "author_id": name} for n, name in enumerate(["bob", "Ella"])]
    world.items.put([{**room, "created_at": NOW, "title": "Jazz & <b>more</b>", "url": "https://rooms.example/1"} for room in rooms])
    profile = blank(1)
    profile["locale"], profile["zone"] = b"de-AT", b"Europe/Vienna"
    world.profiles.put(["ann"], profile)
    async with client_of(create_app(world.services())) as client:
        client.cookies.set(COOKIE, world.token("read"))
        yield client


async def test_a_preview_shows_the_message_in_the_users_language(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/console/preview", params=ASKED)
    assert answer.status_code == 200
    assert "Ella und bob: Jazz &amp; &lt;b&gt;more&lt;/b&gt;" in answer.text
    assert "de-AT, Europe/Vienna" in answer.text
    assert "Sie bekommen das" in answer.text
    assert "frame-src 'self'" in answer.headers["content-security-policy"]


async def test_the_html_body_is_a_page_of_its_own_that_may_do_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    answer = await visitor.get("/console/preview/html", params=ASKED | {"locale": "en"})
    assert "You get this because" in answer.text
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script" not in answer.headers["content-security-policy"]
    assert "https://preview.invalid/unsubscribe/" in answer.text


async def test_links_of_a_preview_are_refused(visitor: httpx.AsyncClient) -> None:
    body = (await visitor.get("/console/preview/html", params=ASKED)).text
    token = body.partition("https://preview.invalid/unsubscribe/")[2].partition('"')[0]
    assert (await visitor.post(f"/unsubscribe/{token}")).status_code == 404


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"item": "gone"}, "no item &#39;gone&#39;"), ({"user": "eve"}, "no user &#39;eve&#39;"), ({"locale": "☃"}, "is no locale")],
)
async def test_what_is_not_there_is_said(visitor: httpx.AsyncClient, change: dict[str, str], problem: str) -> None:
    answer = await visitor.get("/console/preview", params=ASKED | change)
    assert answer.status_code == 404
    assert problem in answer.text
    assert (await visitor.get("/console/preview/html", params=ASKED | change)).status_code == 404


async def test_the_form_comes_first_and_only_for_who_may_look(visitor: httpx.AsyncClient, world: World) -> None:
    form = await visitor.get("/console/preview")
    assert 'name="item"' in form.text
    assert "iframe" not in form.text
    visitor.cookies.clear()
    for path in ("/console/preview", "/console/preview/html"):
        assert (await visitor.get(path, params=ASKED)).status_code == 401
