"""Which requests give way when a gateway has too many in flight: what can wait longest first, what is critical last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delivery.links import PATHS
from gateway.problems import ProblemError, shed
from lake.metrics import Metrics

Kind = Literal["read", "change", "event", "urgent", "critical"]

GIVES_WAY_AT: dict[Kind, float] = {"read": 0.5, "change": 0.7, "event": 0.8, "urgent": 0.9, "critical": 1.0}
"""The share of the room from which on a kind is refused. Looking can wait; changes and events are sent again by whoever has them, and one
that was accepted is on disk; an urgent item is worth less every minute; a critical one is why the others give way."""

COME_AGAIN_S: dict[Kind, float] = {"read": 5.0, "change": 3.0, "event": 2.0, "urgent": 1.0, "critical": 1.0}

NEVER = ("/healthz",)
"""Whoever asks whether a gateway lives must hear from it above all when it is busy."""


def kind_of(method: str, path: str) -> Kind:
    """Return what a request is before its body is read; an urgent one counts as critical until its body says that it is not."""
    first = path.split("/", 2)[1]
    if path == "/v1/urgent" or first == PATHS["unsubscribe"]:  # whoever wants no more messages must not be turned away
        return "critical"
    if path == "/v1/events" or first in (PATHS["open"], PATHS["click"]):
        return "event"
    if method in ("GET", "HEAD") or path.startswith("/console") or path == "/v1/windows/dry-run":
        return "read"
    return "change"


@dataclass
class Load:
    """The requests of one gateway. `room`: the most in flight."""

    room: int
    metrics: Metrics
    in_flight: int = 0

    def check(self, kind: Kind) -> None:
        """Raise ProblemError 503 where this kind must give way; the request itself counts already."""
        if self.in_flight > max(1, int(self.room * GIVES_WAY_AT[kind])):
            self.metrics.count("tidings_shed_requests_total", kind=kind)
            self.metrics.count("tidings_refused_requests_total", status="503")
            raise shed(f"{self.in_flight:,} requests are in flight, and this kind ({kind}) gives way", COME_AGAIN_S[kind])

    @contextmanager
    def held(self) -> Iterator[Place]:
        """Count a request while it is in flight."""
        place = Place(self)
        self.in_flight += 1
        try:
            yield place
        finally:
            place.leave()


@dataclass
class Place:
    """One request's place among those in flight."""

    load: Load
    is_held: bool = field(default=True)

    def leave(self) -> None:
        """Count it no longer."""
        self.load.in_flight -= self.is_held
        self.is_held = False


@dataclass(frozen=True)
class LoadShed:
    """ASGI middleware: 503 with Retry-After for a request that must give way, before anything of it is read."""

    app: ASGIApp
    load: Load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counted while it is in flight."""
        if scope["type"] != "http" or scope["path"] in NEVER:
            await self.app(scope, receive, send)
            return
        with self.load.held() as place:
            try:
                self.load.check(kind_of(scope["method"], scope["path"]))
            except ProblemError as problem:
                await problem.response()(scope, receive, send)
                return
            await self.app(scope, receive, _leaving(place, send))


def _leaving(place: Place, send: Send) -> Send:
    """Return a `send` by which a live stream leaves its place once it has begun: from then on it mostly waits."""

    async def leaving(message: Message) -> None:
        if message["type"] == "http.response.start" and Headers(raw=message["headers"]).get("content-type", "").startswith("text/event"):
            place.leave()
        await send(message)

    return leaving
