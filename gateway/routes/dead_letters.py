"""/console/dead: what could not be delivered, each with its message's story, to be sent again or dropped."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from delivery.deadletters import Handled, name_of
from delivery.outbox import DeadLetter
from gateway.api_keys import ApiKey
from gateway.pages import HEADERS, page
from gateway.problems import ProblemError, forbidden, invalid
from gateway.routes.console import COOKIE, admit
from gateway.routing import services_of
from gateway.services import Services
from gateway.stories import told

OPERATE = ["operate"]
LISTED = 100
PATH = "/console/dead"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Row:
    """A letter as the page shows it; what an unreadable one does not know is empty."""

    name: str
    at: str
    reason: str
    attempts: int
    user_id: str = ""
    item_id: str = ""
    channel: str = ""

    @staticmethod
    def of(letter: DeadLetter) -> Row:
        """Return the row of a letter."""
        at = datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        message = letter.message
        known = {} if message is None else {"user_id": message.user_id, "item_id": message.item_id, "channel": message.channel}
        return Row(name_of(letter), at, letter.reason, letter.attempts, **known)


@router.get(PATH)
async def get_letters(
    request: Request, channel: str = "", user: str = "", replayed: int = 0, dropped: int = 0, missing: int = 0
) -> Response:
    """List the newest letters, of a channel or a user if given, and what was just done."""
    try:
        key = await admit(request)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem="")
    services = services_of(request)
    found = await run_in_threadpool(services.dead_letters.find, LISTED + 1, channel=channel or None, user_id=user or None)
    return page(
        "dead_letters.html",
        letters=[Row.of(letter) for letter in found[:LISTED]],
        more=len(found) > LISTED,
        channel=channel,
        user=user,
        channels=services.meta.channels,
        said=_said(replayed, dropped, missing),
        **_controls(request, key),
    )


@router.get(PATH + "/{shard}/{letter_id}")
async def get_letter(request: Request, shard: str, letter_id: str) -> Response:
    """Show one letter: why it ended here, and its message's story."""
    try:
        key = await admit(request)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem="")
    name = f"{shard}/{letter_id}"
    found = await run_in_threadpool(_inspect, services_of(request), name)
    if found is None:
        return page("dead_letter.html", status_code=404, named=name, letter=None, facts=[], story=[], **_controls(request, key))
    letter, facts, story = found
    return page("dead_letter.html", named=name, letter=letter, facts=facts, story=story, **_controls(request, key))


@router.post(PATH)
async def post_letters(request: Request) -> Response:
    """Send the chosen letters again or drop them, and go back to the list."""
    key = await admit(request)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    _check_ours(request, form.get("seal", [""])[0])
    if not key.may(OPERATE):
        raise forbidden(OPERATE)
    names, wanted = form.get("name", []), form.get("do", [""])[0]
    if wanted not in ("replay", "drop"):
        raise invalid("do", "is neither replay nor drop")
    try:
        handled = await run_in_threadpool(_handle, services_of(request), wanted, names)
    except ValueError as error:
        raise invalid("name", str(error)) from error
    done = {"replayed" if wanted == "replay" else "dropped": handled.done, "missing": len(handled.missing)}
    return RedirectResponse(f"{PATH}?{urlencode(done)}", 303, headers={"Cache-Control": HEADERS["Cache-Control"]})


def _handle(services: Services, wanted: str, names: Sequence[str]) -> Handled:
    letters = services.dead_letters
    return letters.replay(names) if wanted == "replay" else letters.drop(names)


def _inspect(services: Services, name: str) -> tuple[Row, list[tuple[str, str]], list[dict[str, Any]]] | None:
    try:
        letter = services.dead_letters.get(name)
    except ValueError:
        return None
    if letter is None:
        return None
    message = letter.message
    if message is None:
        return Row.of(letter), [], []
    facts = [
        (label, value)
        for label, value in (
            ("Told with it", ", ".join(message.item_ids[1:])),
            ("Lane", message.lane),
            ("Source", message.source),
            ("Granted because", message.reason),
            ("Model", message.model_id),
            ("Decision", message.decision_id),
            ("Message", message.grant_id),
        )
        if value
    ]
    story = told(services.story(message.user_id, message.grant_id, services.clock.now()))
    return Row.of(letter), facts, [_step(step) for step in story]


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step for people: when, what, and the rest of it in words."""
    at = datetime.fromisoformat(step["at"]).strftime("%Y-%m-%d %H:%M:%S")
    rest = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in step.items() if name not in ("at", "step"))
    return {"at": at, "what": step["step"], "rest": rest}


def _said(replayed: int, dropped: int, missing: int) -> str:
    parts = (
        (replayed, "put back into the outbox"),
        (dropped, "dropped, their units of budget given back"),
        (missing, "were no longer there"),
    )
    return "; ".join(f"{n:,} {what}" for n, what in parts if n > 0)


def _controls(request: Request, key: ApiKey) -> dict[str, Any]:
    """Return what the buttons need: whether there are any, and the seal that only this console's own pages know."""
    return {"may_operate": key.may(OPERATE), "seal": _seal(request.cookies.get(COOKIE, ""))}


def _seal(cookie: str) -> str:
    """Return what a form of whoever holds the cookie carries. No other site can read the cookie, so none can make it."""
    return hashlib.sha256(b"console form\0" + cookie.encode()).hexdigest()


def _check_ours(request: Request, seal: str) -> None:
    """Refuse a form that another site had a browser send; who sends a key by hand needs no seal."""
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and not hmac.compare_digest(seal.encode(), _seal(cookie).encode()):
        raise ProblemError(403, "foreign-form", "this form is not of this console, or from before this login; open /console/dead again")
