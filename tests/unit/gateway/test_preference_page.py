"""A user's own page of preferences: looking changes nothing, a form changes what it says, and only the right link opens it."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from delivery.feedback import Feedback
from delivery.suppression import MemorySuppressionStore, Suppression
from gateway.app import create_app
from gateway.preference_form import Offer
from lake.profiles import blank
from tests.unit.gateway.conftest import EVERYTHING, META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
OFFER = Offer({"post": "New posts", "reply": "Replies"}, ("in_app", "email", "push"))
EVERY_CHANNEL = (1 << len(META.channels)) - 1


@pytest.fixture
def suppression(world: World) -> Suppression:
    return Suppression(MemorySuppressionStore(), world.profiles, META)


@pytest.fixture
async def visitor(world: World, suppression: Suppression) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of somebody without a key; there is one user, in Berlin."""
    profile = blank(1)
    profile["zone"] = b"Europe/Berlin"
    world.profiles.put(["u1"], profile)
    app = create_app(world.services(offer=OFFER, suppression=suppression, feedback=Feedback(world.events, suppression)))
    async with client_of(app) as client:
        client.headers.update(BROWSER)
        yield client
    app.state.desk.close()
    app.state.health.close()


def link(world: World, user: str = "u1") -> str:
    return world.links.preferences(user, NOW, "email", "00000000000000aa")


def ticked(page: httpx.Response) -> set[str]:
    return {html.unescape(value) for value in re.findall(r'name="allow" value="([^"]*)" checked', page.text)}


def form_of(page: httpx.Response, **changes: Any) -> dict[str, Any]:
    """What a browser would send of a page as it is."""
    text = page.text
    fields: dict[str, Any] = {
        "shown": [html.unescape(value) for value in re.findall(r'name="shown" value="([^"]*)"', text)],
        "allow": sorted(ticked(page)),
        "dial": re.findall(r'name="dial" value="([^"]*)" checked', text),
        "digest_at": re.findall(r'<option value="([^"]*)" selected>', text) or [""],
        "digest_days": re.findall(r'name="digest_days" value="([^"]*)" aria-label="[A-Za-z]*" checked', text),
        "quiet_from": re.findall(r'name="quiet_from" value="([^"]*)"', text),
        "quiet_to": re.findall(r'name="quiet_to" value="([^"]*)"', text),
    }
    return fields | changes


def rows(world: World) -> list[dict[str, Any]]:
    return world.profiles.preferences(["u1"])[0]


def events(world: World) -> list[dict[str, Any]]:
    return [dict(row) for shard in range(META.shards) for _, row in world.events.read(shard, 10)]


def suppressed(world: World) -> int:
    return int(world.profiles.get(["u1"])["suppressed"][0])


async def test_looking_shows_everything_allowed_and_changes_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    before = dict(world.profiles.rows)
    for _ in range(3):
        page = await visitor.get(link(world))
    assert page.status_code == 200
    assert len(ticked(page)) == 9
    assert "Europe/Berlin" in page.text
    assert (rows(world), events(world), world.enrolled, world.profiles.rows) == ([], [], [], before)
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text


async def test_a_form_saves_shows_what_was_saved_and_moves_the_user(visitor: httpx.AsyncClient, world: World) -> None:
    page = await visitor.get(link(world))
    form = form_of(page, dial="1", digest_at="18:30", digest_days=["mon", "fri"], quiet_from="22:00", quiet_to="07:00")
    form["allow"] = [value for value in form["allow"] if not value.startswith("email/") and value != "push/reply"]
    saved = await visitor.post(link(world), data=form)
    assert saved.status_code == 200
    day = {"dial": 1, "quiet_from": "22:00", "quiet_to": "07:00", "digest_at": "18:30", "digest_days": ["mon", "fri"]}
    assert rows(world) == [
        {"allowed": True} | day,
        {"channel": "email", "allowed": False},
        {"kind": "reply", "channel": "push", "allowed": False},
    ]
    profile = world.profiles.get(["u1"])[0]
    assert (profile["digest_quarter"], profile["digest_days"], profile["dial"]) == (74, 0b10001, 1)
    assert profile["not_allowed"] == 1 << META.channels.index("email")
    assert world.enrolled == ["u1"]
    assert 'role="status"' in saved.text
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", saved.text))
    for words in ("Replies App", "At 18:30, Monday, Friday", "22:00 to 07:00", "How much More"):
        assert words in told
    again = await visitor.get(link(world))
    assert ticked(again) == set(form["allow"])
    assert form_of(again)["digest_days"] == ["mon", "fri"]


async def test_a_form_as_it_was_saves_the_same_once_more(visitor: httpx.AsyncClient, world: World) -> None:
    world.profiles.put_preferences("u1", [{"kind": "post", "allowed": False}, {"allowed": True, "dial": -2}])
    for _ in range(2):
        page = await visitor.get(link(world))
        await visitor.post(link(world), data=form_of(page))
        assert rows(world) == [{"allowed": True, "dial": -2}, {"kind": "post", "allowed": False}]


async def test_an_empty_post_changes_no_choice(visitor: httpx.AsyncClient, world: World) -> None:
    world.profiles.put_preferences("u1", [{"allowed": False, "digest_at": "09:00"}])
    assert (await visitor.post(link(world), content=b"\x00\xff=%%%&&&")).status_code == 200
    assert rows(world) == [{"allowed": False, "digest_at": "09:00"}]


async def test_what_makes_no_sense_is_told_kept_in_the_form_and_not_saved(visitor: httpx.AsyncClient, world: World) -> None:
    page = await visitor.get(link(world))
    wrong = await visitor.post(link(world), data=form_of(page, quiet_from="22:00", allow=[]))
    assert wrong.status_code == 422
    assert 'role="alert"' in wrong.text
    assert "both a beginning and an end" in wrong.text
    assert 'name="quiet_from" value="22:00"' in wrong.text
    assert ticked(wrong) == set()
    assert rows(world) == []
    problem = problem_of(await visitor.post(link(world), data={"dial": "9"}, headers={"Accept": "*/*"}), 422)
    assert problem["errors"][0]["field"] == "form"


async def test_unsubscribing_from_everything_keeps_the_choices_and_can_be_taken_back(visitor: httpx.AsyncClient, world: World) -> None:
    world.profiles.put_preferences("u1", [{"kind": "post", "allowed": False}])
    for _ in range(2):
        page = await visitor.post(link(world), data={"unsubscribe": "everything"})
        assert "You are unsubscribed from everything" in page.text
        assert suppressed(world) == EVERY_CHANNEL
    assert [(event["kind"], event["send_id"], event.get("channel")) for event in events(world)] == [
        ("unsubscribe", "00000000000000aa", None)
    ]
    assert rows(world) == [{"kind": "post", "allowed": False}]
    assert 'name="unsubscribe"' not in page.text
    back = await visitor.post(link(world), data={"resubscribe": "*"})
    assert "Messages will come again" in back.text
    assert suppressed(world) == 0


async def test_one_channel_can_be_begun_again_but_not_one_that_ended_for_another_reason(
    visitor: httpx.AsyncClient, world: World, suppression: Suppression
) -> None:
    suppression.unsubscribe("u1", "email", "link", NOW)
    suppression.unsubscribe("u1", "push", "provider", NOW, "complained")
    page = await visitor.get(link(world))
    assert 'name="resubscribe" value="email"' in page.text
    assert 'value="push" class="plain"' not in page.text
    assert (await visitor.post(link(world), data={"resubscribe": "push"})).status_code == 422
    await visitor.post(link(world), data={"resubscribe": "email"})
    assert suppressed(world) == 1 << META.channels.index("push")


async def test_a_link_that_was_changed_or_is_of_another_kind_or_of_nobody_opens_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    for url in (
        link(world)[:-3],
        link(world) + "x",
        link(world, "nobody"),
        "/preferences/" + world.links.open("u1", "", "").rpartition("/")[2],
    ):
        for method in ("GET", "POST"):
            page = await visitor.request(method, url)
            assert (page.status_code, "This link is not valid" in page.text) == (404, True)
            problem_of(await visitor.request(method, url, headers={"Accept": "application/json"}), 404)


async def test_an_expired_link_says_so_and_does_nothing(visitor: httpx.AsyncClient, world: World) -> None:
    old = link(world)
    world.clock.at = float(world.links.preferences_until(NOW))
    for method in ("GET", "POST"):
        page = await visitor.request(method, old, data={"unsubscribe": "everything"} if method == "POST" else None)
        assert (page.status_code, "This link has expired" in page.text) == (410, True)
        problem_of(await visitor.request(method, old, headers={"Accept": "*/*"}), 410)
    assert suppressed(world) == 0


async def test_what_users_and_deployers_wrote_never_becomes_markup(visitor: httpx.AsyncClient, world: World) -> None:
    kind = '"><script>alert(1)</script>{{ 7 * 7 }}'
    world.profiles.put_preferences("u1", [{"kind": kind, "allowed": False}])
    page = await visitor.get(link(world))
    assert "<script" not in page.text
    assert html.escape(kind, quote=False) in page.text.replace("&#34;", '"')
    form = form_of(page, quiet_from='"><img src=x>', quiet_to="1")
    assert f"email/{kind}" in form["shown"]
    assert "<img" not in (await visitor.post(link(world), data=form)).text
    await visitor.post(link(world), data=form_of(page))
    assert rows(world) == [{"allowed": True}, {"kind": kind, "allowed": False}]


async def test_a_form_of_too_many_fields_is_refused(visitor: httpx.AsyncClient, world: World) -> None:
    problem_of(await visitor.post(link(world), content=b"a=1&" * 30_000), 422)


async def test_a_deployer_gets_a_link_to_hand_on(visitor: httpx.AsyncClient, world: World) -> None:
    key = {"Authorization": f"Bearer {world.token(*EVERYTHING)}"}
    answer = (await visitor.get("/v1/users/u1/preferences/link", headers=key)).json()
    assert datetime.fromisoformat(answer["expires_at"]) == datetime.fromtimestamp(world.links.preferences_until(NOW), UTC)
    assert (await visitor.get(answer["url"])).status_code == 200
    problem_of(await visitor.get("/v1/users/nobody/preferences/link", headers=key), 404)
    problem_of(await visitor.get("/v1/users/u1/preferences/link", headers={"Authorization": f"Bearer {world.token('read')}"}), 403)


async def test_the_pages_style_is_ours(visitor: httpx.AsyncClient, world: World) -> None:
    page = await visitor.get(link(world))
    assert set(re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)) == {"/console/console.css", "/console/preferences.css"}
    style = await visitor.get("/console/preferences.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "//" not in style.text
