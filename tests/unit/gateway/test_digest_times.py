"""A time of the user's own, put over HTTP: it reads back, moves the user at once, and a wrong one is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from lake.profiles import blank
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores, reenroll
from scheduler.windows import SLOT_S
from tests.unit.gateway.conftest import EVERYTHING, META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of


@pytest.fixture
def due() -> MemoryDueIndex:
    return MemoryDueIndex(META.shards)


@pytest.fixture
async def client(world: World, due: MemoryDueIndex) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with a due index of its own, whose users have a predicted window at 9 on Mondays."""
    stores = Stores(META, world.profiles, world.follows, world.items, due)
    usual = blank(1)
    usual["windows"][0, 0] = 36
    world.profiles.put_usual(usual)
    app = create_app(world.services(enroll=lambda users, now: reenroll(users, stores, now)))
    async with client_of(app, world.token(*EVERYTHING)) as client:
        await client.put("/v1/users/u1", json={"timezone": "Asia/Kolkata"})
        yield client
    app.state.desk.close()
    app.state.health.close()


def slot_of(due: MemoryDueIndex) -> int:
    return int(due.slots(["u1"])[0])


EVENING = int((NOW // 86_400 + 1) * 86_400 + 13 * 3600) // SLOT_S
"""18:30 in Kolkata, on Wednesday 15 November 2023: NOW is late on Tuesday."""


async def test_it_reads_back_and_moves_the_user_at_once(client: httpx.AsyncClient, due: MemoryDueIndex) -> None:
    predicted = slot_of(due)
    rows: list[dict[str, Any]] = [{"allowed": True, "digest_at": "18:30"}]
    assert (await client.put("/v1/users/u1/preferences", json=rows)).status_code == 204
    assert (await client.get("/v1/users/u1/preferences")).json() == rows
    assert slot_of(due) == EVENING < predicted
    rows = [{"allowed": True, "digest_at": "18:30", "digest_days": ["thu", "fri"]}]
    await client.put("/v1/users/u1/preferences", json=rows)
    assert (await client.get("/v1/users/u1/preferences")).json() == rows
    assert slot_of(due) == EVENING + 96
    await client.put("/v1/users/u1/preferences", json=[])
    assert abs(slot_of(due) - predicted) < 4  # the quarter of the hour is the user's own


async def test_a_move_to_another_zone_takes_the_time_along(client: httpx.AsyncClient, due: MemoryDueIndex) -> None:
    await client.put("/v1/users/u1/preferences", json=[{"allowed": True, "digest_at": "18:30"}])
    await client.put("/v1/users/u1", json={"timezone": "Europe/Lisbon"})
    assert slot_of(due) == EVENING + 22


async def test_rows_that_came_with_tables_read_back_as_days(client: httpx.AsyncClient, world: World) -> None:
    world.profiles.put_preferences("u1", [{"allowed": True, "digest_at": "18:30", "digest_days": "mon|wed"}])
    assert (await client.get("/v1/users/u1/preferences")).json()[0]["digest_days"] == ["mon", "wed"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"digest_at": "18:31"}, "quarter of an hour"),
        ({"digest_at": "24:00"}, "quarter of an hour"),
        ({"digest_at": "18:30", "digest_days": []}, "at least 1 item"),
        ({"digest_at": "18:30", "digest_days": ["moon"]}, "'mon', 'tue'"),
        ({"digest_days": ["mon"]}, "needs digest_at"),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, due: MemoryDueIndex, row: dict[str, Any], problem: str
) -> None:
    before = slot_of(due)
    assert problem in problem_of(await client.put("/v1/users/u1/preferences", json=[row]), 422)["detail"]
    assert slot_of(due) == before
