"""Routes that check the caller's key before they look at anything else, and read large bodies off the event loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match
from starlette.types import Scope

from gateway.api_keys import ApiKey
from gateway.problems import ProblemError, invalid_body
from gateway.services import Services
from gateway.words import Words, words_for

SCHEME = "key"
HIDDEN = "\udc2f"
"""What no path that was decoded from UTF-8 can hold."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def needs(*scopes: str) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that any of `scopes` opens: what is documented is what is checked."""
    return {"security": [{SCHEME: [scope]} for scope in scopes]}


def services_of(request: Request) -> Services:
    """Return the parts behind the routes."""
    services: Services = request.app.state.services
    return services


def words_of(request: Request, user_id: str = "") -> Words:
    """Return the language of a page for a user, "" for whoever asks: their own, else their browser's, else English."""
    services, locale = services_of(request), ""
    if user_id:
        try:
            locale = services.profiles.get([user_id])["locale"][0].decode()
        except services.away_errors:
            locale = ""  # a page in another language is better than none
    return words_for(locale, request.headers.get("accept-language", ""))


def key_of(request: Request) -> ApiKey:
    """Return the key of an admitted request."""
    key: ApiKey = request.state.key
    return key


def _slashes_hidden(scope: Scope) -> Scope:
    """Return a scope in whose path every slash that was written %2F is HIDDEN: the server has turned it into one like any other."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2F" not in raw and b"%2f" not in raw:
        return scope
    written = raw.decode("ascii", "replace").replace("%2F", HIDDEN).replace("%2f", HIDDEN)
    return {**scope, "path": unquote(written)}


def _check_text(scope: Scope) -> None:
    """Refuse what is not UTF-8: each byte that is none would become the same sign, and two people's ids one."""
    for part, raw in (("path", scope.get("raw_path")), ("query", scope.get("query_string"))):
        try:
            unquote_to_bytes(raw or b"").decode()
        except UnicodeDecodeError:
            raise ProblemError(400, "not-utf-8", f"the {part} is not UTF-8; encode it so, then write its bytes as %XX") from None


class KeyedRoute(APIRoute):
    """A route for holders of a key: 401, 403 and 429 come before any complaint about the request itself."""

    @property
    def scopes(self) -> list[str]:
        """The scopes of which the key needs one."""
        security = (self.openapi_extra or {})["security"]
        return [scope for scheme in security for scope in scheme[SCHEME]]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is this route's; a slash that is written %2F is part of an id, not the end of it."""
        match, found = super().matches(_slashes_hidden(scope))
        if "path_params" in found:
            found["path_params"] = {name: str(value).replace(HIDDEN, "/") for name, value in found["path_params"].items()}
        return match, found

    def get_route_handler(self) -> Handler:
        """Return a handler that admits the caller first."""
        scopes, handle = self.scopes, self.inner_handler()

        async def admitted(request: Request) -> Response:
            gatekeeper = request.app.state.gatekeeper
            request.state.key = key = await gatekeeper.admit(request.headers.get("authorization"), scopes)
            services = services_of(request)
            try:
                standing = await services.rates.admit(key, scopes)
            except ProblemError:
                services.metrics.count("tidings_refused_requests_total", status="429")
                raise
            _check_text(request.scope)
            response = await handle(request)
            if standing is not None:
                response.headers.update(standing.headers())
            return response

        return admitted

    def inner_handler(self) -> Handler:
        """Return what handles an admitted request."""
        return super().get_route_handler()


class BodyRoute(KeyedRoute):
    """A keyed route whose endpoint takes (request, body) and returns a Response.

    The body is checked from its bytes in one pass by pydantic's Rust core, several times faster than FastAPI's detour over
    Python's JSON; a plain function is run, with the check, in a thread.
    """

    def inner_handler(self) -> Handler:
        """Return what handles an admitted request."""
        endpoint = self.endpoint
        waits = inspect.iscoroutinefunction(endpoint)
        body_type = inspect.signature(endpoint, eval_str=True).parameters["body"].annotation
        check = TypeAdapter(body_type).validate_json

        def parse(raw: bytes) -> Any:
            try:
                return check(raw)
            except ValidationError as error:
                raise invalid_body(error, body_type) from None

        async def handle(request: Request) -> Response:
            raw = await request.body()
            response: Response = (
                await endpoint(request, parse(raw)) if waits else await run_in_threadpool(lambda: endpoint(request, parse(raw)))
            )
            return response

        return handle
