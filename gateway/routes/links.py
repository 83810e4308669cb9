"""The signed links in messages: unsubscribe pages, the open pixel, and clicks on their way to the item."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from delivery.links import PATHS, BadLinkError, LinkToken, Purpose
from gateway.pages import page, wants_html
from gateway.preference_form import channel_name
from gateway.problems import PAGE_OR_PROBLEM, not_found
from gateway.routing import services_of, words_of
from gateway.services import Services

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}

PIXEL_ONLY: dict[int | str, dict[str, Any]] = {200: {"content": {"image/gif": {}}}}
ERRORS: dict[int | str, dict[str, Any]] = {"default": PAGE_OR_PROBLEM}

router = APIRouter(tags=["links"])


@router.get(f"/{PATHS['unsubscribe']}/{{token}}", response_class=HTMLResponse, responses=ERRORS)
def get_unsubscribe(request: Request, token: str) -> Response:
    """Show a page with a button. Mail scanners follow every link, so looking changes nothing."""
    link = _read(services_of(request), "unsubscribe", token)
    if link is None:
        return _bad_link(request)
    return _unsubscribe_page(request, link, done=False)


@router.post(f"/{PATHS['unsubscribe']}/{{token}}", response_class=HTMLResponse, responses=ERRORS)
def post_unsubscribe(request: Request, token: str) -> Response:
    """End messages to this user on this channel: the page's button, and a mail client's one-click (RFC 8058)."""
    services = services_of(request)
    link = _read(services, "unsubscribe", token)
    if link is None:
        return _bad_link(request)
    services.feedback.accept_link(link, services.clock.now())
    return _unsubscribe_page(request, link, done=True)


@router.get(f"/{PATHS['open']}/{{token}}", response_class=Response, responses=PIXEL_ONLY)
def get_open(request: Request, token: str) -> Response:
    """Count an open and answer a transparent pixel, also for a link that is not ours."""
    services = services_of(request)
    link = _read(services, "open", token)
    if link is not None:
        services.feedback.accept_link(link, services.clock.now())
    return Response(PIXEL, media_type="image/gif", headers=PRIVATE)


@router.get(f"/{PATHS['click']}/{{token}}", response_class=RedirectResponse, status_code=302, responses=ERRORS)
def get_click(request: Request, token: str) -> Response:
    """Count a click and go on to the address that was signed; nothing else is ever redirected to."""
    services = services_of(request)
    link = _read(services, "click", token)
    if link is None:
        return _bad_link(request)
    try:
        services.feedback.accept_link(link, services.clock.now())
    except services.away_errors:
        services.metrics.count("tidings_refused_requests_total", status="503")  # the reader's way matters more than our count
    return RedirectResponse(link.url, 302, headers=PRIVATE)


def _unsubscribe_page(request: Request, link: LinkToken, *, done: bool) -> Response:
    words = words_of(request, link.user_id)
    return page("unsubscribe.html", words=words, channel=words(channel_name(link.channel)), done=done)


def _read(services: Services, purpose: Purpose, token: str) -> LinkToken | None:
    try:
        return services.links.read(purpose, token)
    except BadLinkError:
        return None


def _bad_link(request: Request) -> Response:
    if not wants_html(request):
        raise not_found("this link is not valid; it may have been cut off")
    return page("bad_link.html", status_code=404, words=words_of(request))
