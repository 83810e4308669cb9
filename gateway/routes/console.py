"""/console: what the system is doing, for whoever runs it."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import parse_qs

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from gateway.api_keys import LOGIN, ApiKey, ApiKeyStore, new_key
from gateway.auth import Gatekeeper
from gateway.pages import HEADERS, asset, page
from gateway.problems import ProblemError, unauthorized
from gateway.routing import services_of
from gateway.services import Services

COOKIE = "tidings_console"
SESSION_S = 12 * 3600.0
READ = ["read", "operate"]
"""Either looks; a session of the login link holds both."""

router = APIRouter(include_in_schema=False)


@router.get("/console")
async def get_console(request: Request, key: str = "", token: str = "") -> Response:
    """Show the console; a key or a one-time token in the address becomes a cookie first, so that it leaves the address bar."""
    if shown := key or token:
        return await _log_in(request, shown)
    try:
        await admit(request)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem="")
    return page("console.html", dashboard_url=services_of(request).dashboard_url)


@router.post("/console/login")
async def post_login(request: Request) -> Response:
    """Log in with a key typed into the form."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    return await _log_in(request, form.get("key", [""])[0].strip())


@router.post("/console/logout")
async def post_logout() -> Response:
    """Forget the key in this browser."""
    response = RedirectResponse("/console", 303)
    response.delete_cookie(COOKIE, path="/console")
    return response


@router.get("/console/data")
async def get_data(request: Request) -> Response:
    """Return the console's numbers."""
    await admit(request)
    overview = await run_in_threadpool(_overview, services_of(request))
    return Response(overview, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/console/console.css")
def get_css() -> Response:
    """Return the pages' style."""
    return Response(asset("console.css"), media_type="text/css", headers={"Cache-Control": "max-age=300"})


@router.get("/console/console.js")
def get_js() -> Response:
    """Return the console's script."""
    return Response(asset("console.js"), media_type="text/javascript", headers={"Cache-Control": "max-age=300"})


def _overview(services: Services) -> bytes:
    return orjson.dumps(asdict(services.overview(services.clock.now())))


async def admit(request: Request) -> ApiKey:
    """Return the key of whoever looks at the console; raises ProblemError where there is none, or none that reads."""
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return await gatekeeper.admit(request.headers.get("authorization"), READ)
    return await gatekeeper.admit_token(cookie, READ)


async def _log_in(request: Request, shown: str) -> Response:
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    try:
        key = await gatekeeper.admit_token(shown, [*READ, LOGIN])
        if LOGIN in key.scopes:
            shown = await run_in_threadpool(_session, services_of(request), key)
            gatekeeper.forget(key.id)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem=problem.detail)
    response = RedirectResponse("/console", 303, headers={name: HEADERS[name] for name in ("Cache-Control", "Referrer-Policy")})
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, shown, max_age=int(SESSION_S), path="/console", httponly=True, samesite="strict", secure=secure)
    return response


def _session(services: Services, login: ApiKey) -> str:
    """Return the token of a new key that reads for a while; the login key is gone, and whoever used it first has it."""
    if not services.api_keys.revoke(login.id):
        raise unauthorized("this link was used before; `tidings status` prints another")
    now = services.clock.now()
    _sweep(services.api_keys, now)
    session, token = new_key(READ, now, name="console", lifetime_s=SESSION_S)
    services.api_keys.put(session)
    return token


def _sweep(keys: ApiKeyStore, now: float) -> None:
    for key in keys.all():
        if key.expires_at is not None and key.expires_at < now:
            keys.revoke(key.id)
