"""Pages for people: templates without scripts or styles from elsewhere, under a policy that allows none."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from gateway.words import ENGLISH

HERE = Path(__file__).parent
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined)


def rendered(name: str, **values: Any) -> str:
    """Return a template's text, with whatever is put into it escaped; `words`: its language, by default English."""
    return _environment().get_template(name).render({"words": ENGLISH} | values)


def page(name: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Return a template as a page."""
    return HTMLResponse(rendered(name, **values), status_code, headers=HEADERS)


@cache
def asset(name: str) -> bytes:
    """Return a file of gateway/static."""
    return (HERE / "static" / name).read_bytes()


def wants_html(request: Request) -> bool:
    """Return whether a browser asks."""
    return "text/html" in request.headers.get("accept", "")
