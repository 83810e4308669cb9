"""Errors as RFC 9457 problem details: what was wrong, where, and what to do, never a traceback."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import pydantic
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.models import PATTERN_ADVICE, SLIP
from gateway.slips import meant_at
from lake.table_columns import SHOWN_CHARS

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:tidings:problem:"
MAX_ERRORS = 20
"""A body with more errors than this says how many there are and shows the first of them."""

RETRY_AFTER_S = 1

DESCRIBED: dict[str, Any] = {
    "description": "A problem (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
"""How the schema of the interface tells of errors."""

PAGE_OR_PROBLEM: dict[str, Any] = {
    "description": "A page where a browser asks, else a problem (RFC 9457)",
    "content": {**DESCRIBED["content"], "text/html": {"schema": {"type": "string"}}},
}

log = logging.getLogger(__name__)
NOT_NAMED = ("body", "path", "query", "header", "one", "many")
"""Where a value came from is no part of its name."""


class ProblemError(Exception):
    """An error answer. `slug` names its kind within TYPE_PREFIX; `extra` are further members of the document."""

    def __init__(self, status: int, slug: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail, self.headers, self.extra = status, slug, detail, dict(headers or {}), extra

    def response(self) -> Response:
        """Return the answer."""
        document = {
            "type": TYPE_PREFIX + self.slug,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        return Response(orjson.dumps(document), self.status, self.headers, media_type=MEDIA_TYPE)


def unauthorized(detail: str) -> ProblemError:
    """Return 401: no key, or one that is not (or no longer) known."""
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="tidings"'})


def forbidden(scopes: Sequence[str]) -> ProblemError:
    """Return 403: a good key without any of `scopes`."""
    detail = f"this key lacks the scope {' or '.join(scopes)}; make one with `tidings keys new --scope {scopes[0]}`"
    return ProblemError(403, "missing-scope", detail)


def not_found(detail: str) -> ProblemError:
    """Return 404."""
    return ProblemError(404, "not-found", detail)


def invalid(field: str, problem: str) -> ProblemError:
    """Return 422 for one field."""
    return ProblemError(422, "invalid", f"{field}: {problem}", errors=[{"field": field, "problem": problem}])


def without_id(row: Mapping[str, Any], name: str, value: str) -> dict[str, Any]:
    """Return a row without the id that its path has; raises ProblemError where it names another."""
    if row.get(name, value) != value:
        raise invalid(name, "is not the one in the path; leave it out")
    return {column: each for column, each in row.items() if column != name}


def away(detail: str, retry_after_s: float = RETRY_AFTER_S) -> ProblemError:
    """Return 503: a part that is needed does not answer; nothing was lost, the same request may be sent again."""
    return ProblemError(503, "away", detail, headers={"Retry-After": _whole_seconds(retry_after_s)})


def shed(detail: str, retry_after_s: float) -> ProblemError:
    """Return 503: too much is in flight, and this request is of a kind that gives way first."""
    return ProblemError(503, "shed", f"{detail}; send again later", headers={"Retry-After": _whole_seconds(retry_after_s)})


def overloaded(detail: str, retry_after_s: float = RETRY_AFTER_S) -> ProblemError:
    """Return 429: as much is in flight as is allowed."""
    return ProblemError(429, "overloaded", detail, headers={"Retry-After": _whole_seconds(retry_after_s)})


def rate_limited(detail: str, retry_after_s: float, headers: Mapping[str, str]) -> ProblemError:
    """Return 429: this key has called as often as it may; `headers` tell its rate."""
    wait = {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    return ProblemError(429, "rate-limited", f"{detail}; send again later", headers={**headers, **wait})


def in_progress() -> ProblemError:
    """Return 409: the first request with this Idempotency-Key has no answer yet."""
    detail = "the first request with this Idempotency-Key is being decided; send again shortly"
    return ProblemError(409, "in-progress", detail, headers={"Retry-After": _whole_seconds(RETRY_AFTER_S)})


def invalid_body(error: pydantic.ValidationError, body: Any) -> ProblemError:
    """Return 422 for a body that broke the rules of its type, `body`; 400 where it is not JSON at all."""
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return ProblemError(400, "not-json", found[0]["msg"])
    return _invalid(found, body)


def field_name(loc: Sequence[int | str]) -> str:
    """Return a place in a body as people write it: `item.created_at`, `users[3]`."""
    name = ""
    for part in loc[1:] if loc and loc[0] in NOT_NAMED else loc:
        shown = part if isinstance(part, int) or len(part) <= SHOWN_CHARS else f"{part[: SHOWN_CHARS - 1]}…"
        name += f"[{part}]" if isinstance(part, int) else f".{shown}" if name else str(shown)
    return name or "body"


def _invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> ProblemError:
    named = [{"field": field_name(_place(each)), "problem": _message(each, body)} for each in errors[:MAX_ERRORS]]
    more = f" (and {len(errors) - 1:,} more)" if len(errors) > 1 else ""
    return ProblemError(422, "invalid", f"{named[0]['field']}: {named[0]['problem']}{more}", errors=named)


def _place(error: Mapping[str, Any]) -> Sequence[int | str]:
    """Return where an error is; that about a name is found by the model that does not have it."""
    return [*error["loc"], error["ctx"]["field"]] if error["type"] == SLIP else error["loc"]


def _message(error: Mapping[str, Any], body: Any) -> str:
    if error["type"] == "extra_forbidden":
        field = meant_at(body, error["loc"])
        return "there is no such field" + (f"; is {field} meant?" if field else "")
    if error["type"] == "string_pattern_mismatch":
        return PATTERN_ADVICE.get(error["ctx"]["pattern"], str(error["msg"]))
    return str(error["msg"]).removeprefix("Value error, ")


def _whole_seconds(seconds: float) -> str:
    return str(max(1, round(seconds)))


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = "too-large" if error.status_code == 413 else HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return ProblemError(error.status_code, slug, str(error.detail), headers=error.headers).response()


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return ProblemError(
            400, "not-json", f"the body is not JSON: {found[0]['ctx']['error']} at character {found[0]['loc'][-1]}"
        ).response()
    return _invalid(found, inspect.get_annotations(request.scope["endpoint"], eval_str=True).get("body")).response()


async def _on_anything(_: Request, __: Exception) -> Response:
    return ProblemError(500, "internal", "something went wrong here; it was logged").response()


async def _on_away(request: Request, error: Exception) -> Response:
    log.warning("%s %s met a part that is away", request.method, request.url.path, exc_info=error)
    return away("a part that is needed does not answer; send again shortly").response()


def install(app: FastAPI, away_errors: Sequence[type[Exception]]) -> None:
    """Make every error of the app leave as problem+json; `away_errors` are those of a part that does not answer."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_anything)
    for kind in away_errors:
        app.add_exception_handler(kind, _on_away)
