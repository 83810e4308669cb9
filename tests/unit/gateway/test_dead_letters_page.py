"""The console's dead letters: looked at by whoever may look, sent again or dropped by whoever may, and by no other site."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from delivery.deadletters import DeadLetters, name_of
from delivery.outbox import Outcome
from gateway.api_keys import login_token
from gateway.app import create_app
from lake.ids import shard_of
from tests.unit.delivery.examples import a_message
from tests.unit.gateway.conftest import META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of

HOSTILE = "<script>alert(1)</script>"


def bury(world: World, number: int, reason: str = "550 no such mailbox", **changes: object) -> str:
    """Put a message into the outbox, have it fail for good, and return its letter's name."""
    message = a_message(number, **changes)
    shard = shard_of(message.user_id, META.shards)
    world.outbox.add(shard, [message])
    (entry,) = world.outbox.read(shard, "a", 10, NOW, 1000)
    world.outbox.settle(shard, [Outcome(entry.answered(NOW), "failed", reason, dead=True)], NOW + number)
    return next(name_of(letter) for letter in letters(world).find() if letter.message == message)


def letters(world: World) -> DeadLetters:
    return DeadLetters(world.outbox, META.shards, world.refunded)


def backlog(world: World) -> int:
    return sum(each.total for each in world.outbox.backlog(range(META.shards)))


def seal_of(page: httpx.Response) -> str:
    found = re.search(r'name="seal" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


@pytest.fixture
async def operator(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who followed the login link."""
    async with client_of(create_app(world.services())) as client:
        await client.get("/console", params={"token": login_token(world.api_keys, NOW)})
        yield client


async def test_letters_are_listed_newest_first_and_chosen_by_channel_and_user(operator: httpx.AsyncClient, world: World) -> None:
    first, second = bury(world, 1, HOSTILE), bury(world, 2, channel="push")
    page = await operator.get("/console/dead")
    assert page.text.index(second) < page.text.index(first)
    assert HOSTILE not in page.text
    assert "&lt;script&gt;" in page.text
    chosen = (await operator.get("/console/dead", params={"channel": "push"})).text
    assert (first in chosen, second in chosen) == (False, True)
    chosen = (await operator.get("/console/dead", params={"user": "u1"})).text
    assert (first in chosen, second in chosen) == (True, False)


async def test_a_letter_is_shown_with_its_story(operator: httpx.AsyncClient, world: World) -> None:
    page = await operator.get(f"/console/dead/{bury(world, 1)}")
    assert page.status_code == 200
    for words in ("550 no such mailbox", "i1 to u1 on email", "attempted", "failed", a_message(1).grant_id):
        assert words in page.text
    for name in ("0/1-0", "9/1-0", "0/nonsense"):
        gone = await operator.get(f"/console/dead/{name}")
        assert (gone.status_code, "no such dead letter" in gone.text) == (404, True)


async def test_what_is_ticked_is_sent_again_or_dropped_and_its_unit_given_back(operator: httpx.AsyncClient, world: World) -> None:
    replayed, dropped, kept = bury(world, 1), bury(world, 2), bury(world, 3)
    seal = seal_of(await operator.get("/console/dead"))
    done = await operator.post("/console/dead", data={"seal": seal, "do": "replay", "name": [replayed, replayed]})
    assert done.status_code == 303
    assert "1 put back into the outbox" in (await operator.get(done.headers["location"])).text
    assert (backlog(world), world.refunds) == (1, [])
    done = await operator.post("/console/dead", data={"seal": seal, "do": "drop", "name": [dropped, replayed]})
    said = (await operator.get(done.headers["location"])).text
    assert "1 dropped" in said
    assert "1 were no longer there" in said
    assert [name_of(letter) for letter in letters(world).find()] == [kept]
    assert world.refunds == [("u2", int(a_message(2).grant_id, 16))]


@pytest.mark.parametrize("seal", [None, "", "0" * 64, "é"])
async def test_a_form_of_another_site_does_nothing(operator: httpx.AsyncClient, world: World, seal: str | None) -> None:
    name = bury(world, 1)
    form = {"do": "drop", "name": name} | ({} if seal is None else {"seal": seal})
    problem_of(await operator.post("/console/dead", data=form), 403)
    async with client_of(create_app(world.services())) as another:  # a seal is of its login alone
        await another.get("/console", params={"token": login_token(world.api_keys, NOW)})
        foreign = seal_of(await another.get("/console/dead"))
    problem_of(await operator.post("/console/dead", data={"do": "drop", "name": name, "seal": foreign}), 403)
    assert len(letters(world).find()) == 1


async def test_a_key_that_reads_sees_letters_and_moves_none(world: World) -> None:
    name = bury(world, 1)
    async with client_of(create_app(world.services())) as client:
        assert (await client.get("/console/dead")).status_code == 401
        assert (await client.get(f"/console/dead/{name}")).status_code == 401
        problem_of(await client.post("/console/dead", data={"do": "drop", "name": name}), 401)
        await client.get("/console", params={"key": world.token("read")})
        page = await client.get("/console/dead")
        assert name in page.text
        assert 'name="do"' not in page.text + (await client.get(f"/console/dead/{name}")).text
        problem_of(await client.post("/console/dead", data={"do": "drop", "name": name, "seal": seal_of(page)}), 403)
    assert len(letters(world).find()) == 1


async def test_a_key_sent_by_hand_needs_no_seal_and_is_told_what_is_wrong(world: World) -> None:
    name = bury(world, 1)
    async with client_of(create_app(world.services()), world.token("operate")) as client:
        for form in ({"do": "burn", "name": name}, {"do": "drop", "name": "nonsense"}, {"name": name}):
            problem_of(await client.post("/console/dead", data=form), 422)
        assert (await client.post("/console/dead", data={"do": "replay", "name": name})).status_code == 303
    assert backlog(world) == 1
