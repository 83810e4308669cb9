"""/console/preview: what a message about an item would say to a user."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from delivery.preview import Preview, Wanted, preview
from gateway.pages import HEADERS, page
from gateway.problems import ProblemError
from gateway.routes.console import admit
from gateway.routing import services_of
from gateway.services import Services
from lake.errors import InputError

# A message styles itself and has no business with scripts, other pages or anything else.
BODY_HEADERS = HEADERS | {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"}
PAGE_HEADERS = HEADERS | {"Content-Security-Policy": HEADERS["Content-Security-Policy"] + "; frame-src 'self'"}

router = APIRouter(include_in_schema=False)


@router.get("/console/preview")
async def get_preview(request: Request, item: str = "", user: str = "", channel: str = "email", locale: str = "") -> Response:
    """Show a form, and the message that it asks for."""
    try:
        await admit(request)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem="")
    services, wanted = services_of(request), Wanted(item, user, channel, locale)
    shown, problem_found = None, ""
    if item and user:
        try:
            shown = await run_in_threadpool(_preview, services, wanted)
        except InputError as error:
            problem_found = str(error)
    asked = urlencode({"item": item, "user": user, "channel": channel, "locale": locale})
    html_url = f"/console/preview/html?{asked}"
    status = 404 if problem_found else 200
    answer = page(
        "preview.html",
        status_code=status,
        wanted=wanted,
        shown=shown,
        problem=problem_found,
        html_url=html_url,
        channels=services.meta.channels,
    )
    answer.headers.update(PAGE_HEADERS)
    return answer


@router.get("/console/preview/html")
async def get_body(request: Request, item: str, user: str, channel: str = "email", locale: str = "") -> Response:
    """Return the HTML body by itself, under a policy that lets it do nothing."""
    await admit(request)
    try:
        shown = await run_in_threadpool(_preview, services_of(request), Wanted(item, user, channel, locale))
    except InputError as error:
        return Response(str(error), 404, media_type="text/plain", headers=HEADERS)
    return HTMLResponse(shown.content.html, headers=BODY_HEADERS)


def _preview(services: Services, wanted: Wanted) -> Preview:
    return preview(wanted, services.items, services.profiles.get([wanted.user_id]))
