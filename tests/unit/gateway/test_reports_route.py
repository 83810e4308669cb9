"""POST /v1/reports: bounces and complaints as they come by mail."""

from __future__ import annotations

import httpx
import pytest

from gateway.app import create_app
from lake.profiles import blank
from tests.unit.delivery.mailed import bounce, complaint
from tests.unit.gateway.conftest import World, client_of
from tests.unit.gateway.problems import problem_of

GRANT = f"{7:016x}"
MAIL = {"Content-Type": "message/rfc822"}


def known(world: World) -> str:
    """Make Ada known and return the link in her message."""
    world.profiles.put(["ada"], blank(1))
    world.profiles.put_addresses("ada", {"email": "ada@example.org"})
    return world.links.unsubscribe("ada", "email", GRANT)


async def test_a_bounce_is_taken_once_and_told_in_the_story_of_its_message(client: httpx.AsyncClient, world: World) -> None:
    raw, told = bounce(known(world)), {"kind": "bounce", "user_id": "ada", "channel": "email", "send_id": GRANT}
    answers = [await client.post("/v1/reports", content=raw, headers=MAIL) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json() for answer in answers] == [told | {"duplicate": False}, told | {"duplicate": True}]
    steps = world.stories().of("ada", GRANT, world.clock.now())
    assert [step["step"] for step in steps] == ["bounced"]


async def test_a_complaint_stops_the_channel(client: httpx.AsyncClient, world: World) -> None:
    assert (await client.post("/v1/reports", content=complaint(known(world)), headers=MAIL)).json()["kind"] == "complaint"
    assert world.profiles.get(["ada"])["suppressed"][0] != 0


@pytest.mark.parametrize("raw", [b"", b"hello", b"\x00" * 1000, bounce("https://evil.example/unsubscribe/forged")])
async def test_what_is_no_report_of_ours_is_refused(client: httpx.AsyncClient, raw: bytes) -> None:
    assert problem_of(await client.post("/v1/reports", content=raw, headers=MAIL), 422)["errors"][0]["field"] == "body"


async def test_it_needs_a_key_for_events(world: World) -> None:
    async with client_of(create_app(world.services())) as client:
        headers = MAIL | {"Authorization": f"Bearer {world.token('read')}"}
        problem_of(await client.post("/v1/reports", content=bounce(known(world)), headers=headers), 403)
