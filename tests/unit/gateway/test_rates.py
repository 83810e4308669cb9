"""Rates over HTTP: what a caller sees who calls too often, and what one sees who does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.api_keys import new_key
from gateway.app import create_app
from gateway.rates import Rates, check_rates
from lake.errors import InputError
from tests.integration.waiting import early_in
from tests.unit.gateway.conftest import NOW, World, client_of
from tests.unit.gateway.problems import problem_of

BODY = {"item_id": "i1", "users": ["u1"], "channels": ["push"]}


@pytest.fixture(autouse=True)
def _no_hour_ends_meanwhile() -> None:
    early_in(3600.0, 10.0)


async def test_beyond_its_rate_a_key_gets_429_with_when_to_come_again_and_nothing_is_decided(world: World) -> None:
    key, token = new_key(("urgent",), NOW)
    world.api_keys.put(replace(key, rate="2/hour"))
    async with client_of(create_app(world.services()), token) as client:
        good = [await client.post("/v1/urgent", json=BODY) for _ in range(2)]
        answer = await client.post("/v1/urgent", json=BODY)
    assert [each.status_code for each in good] == [202, 202]
    assert good[0].headers["ratelimit-policy"] == '"key";q=2;w=3600'
    assert good[1].headers["ratelimit"].startswith('"key";r=0;t=')
    problem = problem_of(answer, 429)
    assert problem["type"].endswith(":rate-limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 7200
    assert answer.headers["ratelimit"].startswith('"key";r=0;t=')
    assert len(world.lane.calls) == 2
    assert world.metrics.counters["tidings_refused_requests_total", (("status", "429"),)] == 1


async def test_a_scopes_rate_covers_what_it_opens_and_nothing_else(world: World) -> None:
    app = create_app(world.services(rates=Rates({"urgent": "1/hour"})))
    async with client_of(app, world.token("urgent", "events")) as client:
        assert (await client.post("/v1/urgent", json=BODY)).status_code == 202
        problem_of(await client.post("/v1/urgent", json=BODY), 429)
        events = [await client.post("/v1/events", json={"user_id": "u1", "kind": "visit"}) for _ in range(3)]
    assert {each.status_code for each in events} == {202}
    assert "ratelimit" not in events[0].headers


@pytest.mark.parametrize("rates", [{"urgnt": "1/hour"}, {"urgent": "often"}])
def test_rates_that_make_no_sense_are_refused(rates: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"urgnt|often"):
        check_rates(rates)
