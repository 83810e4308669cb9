"""The HTTP application: every route over one set of services."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool

from gateway import docs_page, problems
from gateway.api_keys import SCOPES
from gateway.auth import Gatekeeper
from gateway.body_limit import BodyLimit
from gateway.fanout import Fanout
from gateway.health import Health
from gateway.limits import MAX_BODY_BYTES
from gateway.models import Problem
from gateway.routes import (
    console,
    dead_letters,
    decisions,
    events,
    health,
    inbox,
    items,
    links,
    messages,
    preferences,
    preview,
    reports,
    urgent,
    users,
    week,
    windows,
)
from gateway.routing import SCHEME
from gateway.services import Decide, Services
from gateway.shedding import Load, LoadShed
from gateway.urgent import UrgentDesk

ROUTERS = (
    urgent,
    events,
    reports,
    items,
    users,
    inbox,
    decisions,
    messages,
    windows,
    links,
    preferences,
    health,
    console,
    preview,
    week,
    dead_letters,
)
DESCRIPTION = """Tells each person the few things worth telling them, within a weekly budget of their attention.

Every route under /v1 wants `Authorization: Bearer <key>`; `tidings keys new --scope ...` makes one. Errors are problem+json (RFC 9457)."""


def create_app(services: Services, desk: UrgentDesk | None = None, decide: Decide | None = None) -> FastAPI:
    """Return the application.

    `desk`: runs the lane, by default one made of `services`; the application closes it when it ends. `decide`: how a
    request reaches the desk, by default each by itself.
    """
    app = FastAPI(title="Tidings", version=version("tidings"), description=DESCRIPTION, lifespan=_lifespan, docs_url=None)
    app.state.load = Load(services.limits.requests_in_flight, services.metrics)
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(LoadShed, load=app.state.load)
    app.state.services = services
    app.state.gatekeeper = Gatekeeper(services.api_keys, services.clock)
    app.state.health = Health(services.checks)
    app.state.desk = desk or UrgentDesk(services.lane, services.clock, services.metrics, services.limits, services.away_errors)
    app.state.fanout = Fanout(services.fanout, services.lane, services.clock, uuid.uuid4().hex, services.away_errors)
    app.state.decide = decide or app.state.desk.decide
    for module in ROUTERS:
        app.include_router(module.router, responses={"default": problems.DESCRIBED})
    docs_page.install(app)
    problems.install(app, services.away_errors)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the schema
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.fanout.start()
    yield
    await run_in_threadpool(app.state.fanout.stop)
    app.state.desk.close()
    app.state.health.close()


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        described = "A key with one of the scopes a route names. " + "; ".join(f"`{scope}`: {what}" for scope, what in SCOPES.items())
        told = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= {**told.pop("$defs"), "Problem": told}
        schema["components"]["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "description": described}}
        app.openapi_schema = schema
    return app.openapi_schema
