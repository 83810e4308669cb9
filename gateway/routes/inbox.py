"""GET /v1/users/{id}/inbox: what a user was told, as a list or as a live stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from delivery.inbox import CAPACITY, InboxEntry, order
from gateway.models import Id, ReadEntries
from gateway.problems import invalid
from gateway.routing import KeyedRoute, needs, services_of
from gateway.services import Services

LOOK_S, LOOKS = 15.0, 20
"""A stream is closed after LOOKS quiet spells of LOOK_S, so that a gateway can drain; clients reconnect where they were."""

LIST_OR_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}

router = APIRouter(route_class=KeyedRoute, tags=["users"])


@router.get("/v1/users/{user_id}/inbox", response_model=None, responses=LIST_OR_STREAM, openapi_extra=needs("users", "read"))
async def get_inbox(request: Request, user_id: Id, limit: Annotated[int, Query(ge=1, le=200)] = 50, stream: bool = False) -> Response:
    """Return the newest entries; with `Accept: text/event-stream` or `?stream=1` a stream that goes on after `Last-Event-ID`."""
    services = services_of(request)
    if stream or "text/event-stream" in request.headers.get("accept", ""):
        last = request.headers.get("last-event-id", "")
        return EventSourceResponse(_entries(services, user_id, _checked(last)), headers={"Cache-Control": "no-store"})
    return await run_in_threadpool(_listing, services, user_id, limit)


@router.post("/v1/users/{user_id}/inbox/read", openapi_extra=needs("users"))
def post_read(request: Request, user_id: Id, body: ReadEntries) -> dict[str, int]:
    """Mark entries as read; returns how many were not."""
    return {"marked": services_of(request).inbox.mark_read(user_id, body.entry_ids)}


def _listing(services: Services, user_id: str, limit: int) -> Response:
    entries = _still_told(services, services.inbox.latest(user_id, CAPACITY))
    unread = sum(not entry.read for entry in entries)
    return Response(
        orjson.dumps({"entries": [_shown(entry) for entry in entries[:limit]], "unread": unread}), media_type="application/json"
    )


def _still_told(services: Services, entries: Sequence[InboxEntry]) -> list[InboxEntry]:
    """Return the entries of which no item was deleted: what is taken back is shown no more, wherever it was delivered."""
    names = list(dict.fromkeys(name for entry in entries for name in (entry.item_id, *entry.others)))
    there = {name for name, is_there in zip(names, services.items.there(names), strict=True) if is_there}
    return [entry for entry in entries if there.issuperset((entry.item_id, *entry.others))]


async def _entries(services: Services, user_id: str, last: str) -> AsyncIterator[dict[str, str]]:
    looks = 0
    while looks < LOOKS:
        try:
            entries = await services.inbox.wait(user_id, last, LOOK_S)
            shown = await run_in_threadpool(_still_told, services, entries)
        except services.away_errors:
            return
        for entry in shown:
            yield {"id": entry.entry_id, "event": "notification", "data": orjson.dumps(_shown(entry)).decode()}
        looks, last = (0, entries[-1].entry_id) if entries else (looks + 1, last)


def _checked(last_event_id: str) -> str:
    try:
        order(last_event_id)
    except ValueError as error:
        raise invalid("Last-Event-ID", str(error)) from None
    return last_event_id


def _shown(entry: InboxEntry) -> dict[str, Any]:
    return asdict(entry)
