"""A whole gateway on a real store, its ranker in this process, and who calls it without a network between."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI

import serve_app
from gateway.api_keys import new_key
from gateway.app import create_app
from gateway.redis_api_keys import RedisApiKeys
from gateway.urgent import Answer as Decision
from gateway.urgent import UrgentDesk
from lake.items import ItemTable
from lake.metrics import MemoryMetrics
from ranking.redis_features import RedisFeatureStore
from ranking.scorer import Scorer, ScoreRequest, Scores
from scheduler.lanes import UrgentRequest
from scheduler.redis_stores import RedisStores
from tests.unit.ranking.models import bundle_of

EVERYTHING = ("urgent", "urgent:critical", "events", "users", "read")


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

    async def __call__(self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None) -> Answer:
        answer, chunks = Answer(), iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(chunks, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.media_type = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                answer.body += message.get("body", b"")

        further = [(name.lower().encode(), value.encode("utf-8")) for name, value in (more or {}).items()]
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
            "headers": [*headers, *further, (b"content-length", str(len(body)).encode())],
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


@dataclass(frozen=True)
class Gateway:
    """A gateway as a deployment has it."""

    settings: serve_app.Settings
    ranker: LocalRanker
    caller: Caller

    @property
    def stores(self) -> RedisStores:
        """The stores."""
        return serve_app.stores_of(self.settings)


@contextmanager
def a_gateway(url: str, history: Path) -> Iterator[Gateway]:
    """Open a gateway whose caller has a key for everything."""
    settings = serve_app.Settings(model="", redis_url=url, shards=4, history=str(history))
    stores, ranker = serve_app.stores_of(settings), LocalRanker(settings)
    handles: Any = {"Ranker": ranker}
    services = serve_app.gateway_services(settings, handles, MemoryMetrics())
    desk = UrgentDesk(services.lane, services.clock, services.metrics, services.limits, services.away_errors)
    app = create_app(services, desk, Together(desk))
    key, token = new_key(EVERYTHING, stores.clock.now())
    RedisApiKeys(stores.client).put(key)
    yield Gateway(settings, ranker, Caller(app, token))
    desk.close()
    app.state.health.close()
    stores.client.close()
