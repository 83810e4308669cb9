"""Ten thousand hostile requests to a whole gateway on a real store: nothing breaks, then or later, and neighbours are as they should be."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from fastapi import FastAPI

import serve_app
from delivery.redis_feedback import RedisEventLog
from gateway.api_keys import new_key
from gateway.app import create_app
from gateway.problems import MEDIA_TYPE
from gateway.redis_api_keys import RedisApiKeys
from gateway.urgent import Answer as Decision
from gateway.urgent import UrgentDesk
from lake.embedded import EmbeddedStore
from lake.history import History
from lake.items import ItemTable
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from ranking.redis_features import RedisFeatureStore
from ranking.scorer import Scorer, ScoreRequest, Scores
from scheduler.lanes import ScheduledLane, UrgentRequest
from scheduler.lease import shard_lease
from scheduler.redis_stores import RedisStores
from scheduler.windows import SLOT_S
from tests.integration.hostile.payloads import Payload, payloads
from tests.unit.ranking.models import bundle_of

COUNT = 10_000
pytestmark = pytest.mark.timeout(600)
AT_ONCE = 40
EVERYTHING = ("urgent", "urgent:critical", "events", "users", "read")
LONGEST_PROBLEM = 8_000
"""What a problem may hold of what was wrong: a megabyte must not come back."""


@dataclass
class Reply:
    """What a call of a ranker gives."""

    given: Callable[[], Any]

    def result(self, timeout_s: float | None = None) -> Any:
        return self.given()


@dataclass
class Method:
    """One method of a handle: called here and now."""

    call: Callable[..., Any]

    def remote(self, *args: Any, **named: Any) -> Reply:
        return Reply(lambda: self.call(*args, **named))


class LocalRanker:
    """A ranker in this process, as its handle is used."""

    def __init__(self, settings: serve_app.Settings) -> None:
        stores = serve_app.stores_of(settings)
        self._turn = threading.Lock()  # a replica has one thread that scores
        self._scorer = Scorer(bundle_of(), RedisFeatureStore(stores.client, stores.meta.keys), ItemTable(stores.items))
        self.score, self.model_id, self.explain = Method(self._score), Method(lambda: "m"), Method(self._score)

    def _score(self, request: ScoreRequest, *, is_urgent: bool = False) -> Scores:
        with self._turn:
            job = self._scorer.prepare(request)
            for chunk in job.chunks():
                job.run(chunk)
            return job.scores()


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    media_type: str = ""
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """Calls an application without a network between."""

    app: FastAPI
    token: str

    async def __call__(self, method: str, path: str, body: bytes = b"") -> Answer:
        answer, chunks = Answer(), iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(chunks, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.media_type = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                answer.body += message.get("body", b"")

        headers = [(b"authorization", f"Bearer {self.token}".encode()), (b"content-type", b"application/json"), (b"host", b"t")]
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        with suppress(Exception):  # what a server would log: the answer, a 500, has been sent
            await self.app(scope, receive, send)
        return answer


class Together:
    """Urgent requests that came at the same time are decided in one call, as Serve's batcher has it in a replica."""

    def __init__(self, desk: UrgentDesk) -> None:
        self._desk = desk
        self._waiting: list[tuple[UrgentRequest, asyncio.Future[Decision]]] = []

    async def __call__(self, request: UrgentRequest) -> Decision:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(0.002, lambda: loop.create_task(self._decide()))
        self._waiting.append((request, loop.create_future()))
        return await self._waiting[-1][1]

    async def _decide(self) -> None:
        batch, self._waiting = self._waiting, []
        (decided,) = await asyncio.gather(self._desk.decide_together([request for request, _ in batch]), return_exceptions=True)
        for place, (_, future) in enumerate(batch):
            if isinstance(decided, BaseException):
                future.set_exception(decided)
            else:
                future.set_result(decided[place])


@dataclass
class House:
    """A gateway as a deployment has it, its ranker in this process, and what it answered to each hostile request."""

    settings: serve_app.Settings
    ranker: LocalRanker
    caller: Caller
    answers: list[tuple[Payload, Answer]] = field(default_factory=list)

    @property
    def stores(self) -> RedisStores:
        """The stores."""
        return serve_app.stores_of(self.settings)

    def of(self, route: str) -> list[tuple[Payload, Answer]]:
        """Return what was asked of a route, and answered."""
        return [(payload, answer) for payload, answer in self.answers if payload.route == route]


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        yield store.url


@pytest.fixture(scope="module")
def house(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that has been asked everything."""
    settings = serve_app.Settings(model="", redis_url=store_url, shards=4, history=str(tmp_path_factory.mktemp("history")))
    stores = serve_app.stores_of(settings)
    now = stores.clock.now()
    ranker = LocalRanker(settings)
    handles: Any = {"Ranker": ranker}
    services = serve_app.gateway_services(settings, handles, MemoryMetrics())
    desk = UrgentDesk(services.lane, services.clock, services.metrics, services.limits, services.away_errors)
    app = create_app(services, desk, Together(desk))
    key, token = new_key(EVERYTHING, now)
    RedisApiKeys(stores.client).put(key)
    everything = list(payloads(COUNT))
    neighbours = [payload.neighbour(side) for payload in everything for side in (0, 1) if payload.route in ("urgent", "preferences")]
    always = blank(1)
    always["windows"][0, 0] = (now // SLOT_S + 288) % 672
    stores.profiles.put_usual(always)
    stores.profiles.put([*neighbours, "clean"], np.repeat(always, len(neighbours) + 1))
    house = House(settings, ranker, Caller(app, token))
    asyncio.run(ask_everything(house, everything))
    yield house
    desk.close()
    stores.client.close()


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
    stores, settings = house.stores, house.settings
    now = stores.clock.now()
    slot = int(now // SLOT_S)
    users = sorted(set(stores.profiles.everybody()) - {payload.neighbour(1) for payload, _ in house.answers})[::3]
    stores.due.enroll(users, np.full(len(users), slot))
    handle: Any = house.ranker
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
