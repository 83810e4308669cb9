"""A user who tells no clock goes by that of most people, and it is never told as what they said."""

from __future__ import annotations

import httpx
import pytest

from lake.profiles import CLOCK_GUESSED, NO_OFFSET, blank, with_guesses
from tests.unit.gateway.conftest import World


@pytest.fixture
def abroad(world: World) -> World:
    """A deployment most of whose people live in Sao Paulo."""
    world.profiles.put_usual(with_guesses(blank(1), "America/Sao_Paulo", NO_OFFSET))
    return world


def clock(world: World) -> tuple[str, int, bool]:
    """The clock that u1 goes by, and whether that is a guess."""
    row = world.profiles.get(["u1"])[0]
    return row["zone"].decode(), int(row["utc_offset_minutes"]), bool(row["flags"] & CLOCK_GUESSED)


async def test_whoever_tells_no_clock_goes_by_that_of_most_people_until_they_tell_theirs(abroad: World, client: httpx.AsyncClient) -> None:
    for told, goes_by in (
        ({}, ("America/Sao_Paulo", NO_OFFSET, True)),
        ({"timezone": "Europe/Berlin"}, ("Europe/Berlin", NO_OFFSET, False)),
        ({"utc_offset_minutes": 60}, ("", 60, False)),
        ({}, ("America/Sao_Paulo", NO_OFFSET, True)),
    ):
        assert (await client.put("/v1/users/u1", json=told)).status_code == 204
        assert clock(abroad) == goes_by
        assert (await client.get("/v1/users/u1")).json() == {"user_id": "u1"} | told
        exported = (await client.get("/v1/users/u1/export")).json()["profile"]
        assert (exported["timezone"], exported["utc_offset_minutes"]) == (told.get("timezone"), told.get("utc_offset_minutes"))
