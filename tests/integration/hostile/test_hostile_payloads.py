"""Ten thousand hostile requests to a whole gateway on a real store: nothing breaks, then or later, and neighbours are as they should be."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pytest

import serve_app
from delivery.redis_feedback import RedisEventLog
from gateway.problems import MEDIA_TYPE
from lake.embedded import EmbeddedStore
from lake.history import History
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from scheduler.lanes import ScheduledLane
from scheduler.lease import shard_lease
from scheduler.redis_stores import RedisStores
from scheduler.windows import EPOCH_QUARTERS, SLOT_S, WEEK_QUARTERS
from tests.integration.hostile.gateways import Answer, Caller, Gateway, a_gateway
from tests.integration.hostile.payloads import Payload, payloads
from tests.stores import short_folder

COUNT = 10_000
pytestmark = pytest.mark.timeout(600)
AT_ONCE = 40
LONGEST_PROBLEM = 8_000
"""What a problem may hold of what was wrong: a megabyte must not come back."""


@dataclass
class House:
    """A gateway, and what it answered to each hostile request."""

    gateway: Gateway
    answers: list[tuple[Payload, Answer]] = field(default_factory=list)

    @property
    def caller(self) -> Caller:
        """Who calls the gateway."""
        return self.gateway.caller

    @property
    def stores(self) -> RedisStores:
        """The stores."""
        return self.gateway.stores

    def of(self, route: str) -> list[tuple[Payload, Answer]]:
        """Return what was asked of a route, and answered."""
        return [(payload, answer) for payload, answer in self.answers if payload.route == route]


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    with short_folder() as folder, EmbeddedStore(folder) as store:
        yield store.url


@pytest.fixture(scope="module")
def house(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that has been asked everything."""
    everything = list(payloads(COUNT))
    neighbours = [payload.neighbour(side) for payload in everything for side in (0, 1) if payload.route in ("urgent", "preferences")]
    with a_gateway(store_url, tmp_path_factory.mktemp("history")) as gateway:
        always = blank(1)
        always["windows"][0, 0] = (gateway.stores.clock.now() // SLOT_S + EPOCH_QUARTERS) % WEEK_QUARTERS
        gateway.stores.profiles.put_usual(always)
        gateway.stores.profiles.put([*neighbours, "clean"], np.repeat(always, len(neighbours) + 1))
        house = House(gateway)
        asyncio.run(ask_everything(house, everything))
        yield house


def batched(everything: Iterable[Payload], size: int) -> Iterator[list[Payload]]:
    """Yield what is given in parts of a size."""
    rest = iter(everything)
    while part := list(islice(rest, size)):
        yield part


async def ask_everything(house: House, everything: list[Payload]) -> None:
    """Ask all that is hostile, many at a time, and beside it what is good, which must be answered as ever."""
    for number, batch in enumerate(batched(everything, AT_ONCE)):
        asked = [house.caller(payload.method, payload.path, payload.body) for payload in batch]
        *answers, item, user, urgent, event = await asyncio.gather(*asked, *clean(house.caller, number))
        house.answers += zip(batch, answers, strict=True)
        assert (item.status, user.status, urgent.status, event.status) == (204, 204, 202, 202)
        assert [row["disposition"] for row in urgent.json()["results"]] == ["send"], urgent.body
        assert event.json() == {"accepted": 1, "duplicates": 0}


def clean(call: Caller, number: int) -> list[Coroutine[Any, Any, Answer]]:
    """Return good requests, one of each kind."""
    alarm = {"item": {"item_id": f"clean-{number}", "title": "Alarm"}, "users": ["clean"], "critical": True}
    return [
        call("PUT", f"/v1/items/good-{number}", b'{"title": "Good", "topics": ["tea"], "kind": "post"}'),
        call("PUT", f"/v1/users/good-{number}", b'{"timezone": "Europe/Berlin"}'),
        call("POST", "/v1/urgent", json.dumps(alarm).encode()),
        call("POST", "/v1/events", json.dumps({"user_id": "clean", "kind": "view", "event_id": f"clean-{number}"}).encode()),
    ]


def test_nothing_breaks_and_every_refusal_is_a_problem_that_is_short(house: House) -> None:
    assert len(house.answers) == COUNT
    for payload, answer in house.answers:
        assert answer.status < 500, (payload.body[:500], answer)
        if answer.status >= 400:
            assert answer.media_type == MEDIA_TYPE, payload.body[:500]
            problem = answer.json()
            assert {"type", "title", "status", "detail"} <= set(problem)
            assert len(answer.body) < LONGEST_PROBLEM, (payload.body[:500], answer.body[:500])
    statuses = Counter((payload.route, answer.status // 100) for payload, answer in house.answers)
    assert min(statuses[route, kind] for route in ("events", "urgent", "items", "users", "preferences") for kind in (2, 4)) > 50, statuses


def test_of_a_list_with_an_odd_row_either_all_is_taken_or_nothing_and_the_row_is_named(house: House) -> None:
    for route in ("events", "preferences"):
        for payload, answer in house.of(route):
            if answer.status == 422:
                assert all(each["field"].startswith("[1]") for each in answer.json()["errors"]), (payload.body[:500], answer.body)


def test_events_beside_an_odd_one_are_kept_once_or_not_at_all(house: House) -> None:
    log = RedisEventLog(house.stores.client, house.stores.meta.keys)
    kept = Counter(row.get("event_id") for shard in range(house.stores.meta.shards) for _, row in log.read(shard, 100_000))
    for payload, answer in house.of("events"):
        wanted = 1 if answer.status == 202 else 0
        assert [kept[f"e{payload.number}-{side}"] for side in (0, 1)] == [wanted] * 2, payload.body[:500]
        if answer.status == 202:
            assert answer.json()["accepted"] + answer.json()["duplicates"] == 3


def test_preferences_beside_an_odd_one_are_kept_as_given_or_not_at_all(house: House) -> None:
    asked = house.of("preferences")
    rows = house.stores.profiles.preferences([payload.neighbour(0) for payload, _ in asked])
    for (payload, answer), kept in zip(asked, rows, strict=True):
        if answer.status == 204:
            assert (kept[0], kept[-1]) == ({"kind": "post", "allowed": False}, {"channel": "email", "allowed": True}), payload.body[:500]
        else:
            assert kept == [], payload.body[:500]


def test_users_beside_an_odd_one_get_their_decision(house: House) -> None:
    for payload, answer in house.of("urgent"):
        if answer.status == 202:
            rows = answer.json()["results"]
            told = {row["user_id"]: row for row in rows}
            assert {payload.neighbour(0), payload.neighbour(1)} <= set(told), (payload.body[:500], answer.body[:500])
            assert all(told[payload.neighbour(side)]["reason"] != "unknown_user" for side in (0, 1))
        elif answer.status == 422 and b"users[" in answer.body:
            assert b"users[1]" in answer.body


async def test_what_was_taken_can_be_read_back(house: House) -> None:
    for payload, answer in house.of("users"):
        if answer.status == 204:
            for path in (payload.path, f"{payload.path}/inbox", f"{payload.path}/preferences"):
                found = await house.caller("GET", path)
                assert found.status == 200, (payload.body[:500], found.body)
    chooser = next(payload.neighbour(0) for payload, answer in house.of("preferences") if answer.status == 204)
    assert (await house.caller("GET", f"/v1/users/{chooser}/preferences")).status == 200


async def test_whatever_was_taken_the_windows_the_courier_the_history_and_the_night_go_on(house: House) -> None:
    stores, settings = house.stores, house.gateway.settings
    now = stores.clock.now()
    slot = int(now // SLOT_S)
    users = sorted(set(stores.profiles.everybody()) - {payload.neighbour(1) for payload, _ in house.answers})[::3]
    stores.due.enroll(users, np.full(len(users), slot))
    handle: Any = house.gateway.ranker
    pipeline = serve_app.pipeline_of(settings, handle.score, MemoryMetrics())
    lane = ScheduledLane(pipeline, stores.due, serve_app.sources_of(settings), stores.meta.channel_codes(["in_app"]))
    courier = serve_app.make_courier(settings, "courier")
    for shard in range(stores.meta.shards):
        fence = stores.leases.acquire(shard_lease(shard), "me", now, 60.0)
        assert fence is not None
        lane.run(shard, slot, fence, stores.clock)
        while (await courier._parts.dispatcher.drain(shard, "courier", now)).taken:
            pass
        for chore in courier._parts.housekeeping:
            for _ in range(20):
                chore(shard, now)
    assert stores.due.counts(slot).sum() == 0
    assert RedisEventLog(stores.client, stores.meta.keys).read(0, 1) == []
    assert serve_app.refresh_of(settings).run(now + 86_400) is not None
    frame = stores.decision_log(History(settings.history)).find(now, user_id="clean", decision_id=None, limit=50_000)
    assert (frame["disposition"] == "send").sum() >= COUNT // AT_ONCE
