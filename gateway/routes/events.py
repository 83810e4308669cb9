"""POST /v1/events: what users did."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from delivery.feedback import UNDELIVERABLE, channel_of
from gateway.limits import MAX_FUTURE_S
from gateway.models import Event, Events, EventsAnswer
from gateway.problems import invalid
from gateway.routing import BodyRoute, needs, services_of

router = APIRouter(route_class=BodyRoute, tags=["events"])


@router.post("/v1/events", status_code=202, response_model=EventsAnswer, openapi_extra=needs("events"))
def post_events(request: Request, body: Events) -> Response:
    """Take in one event or a list of up to 10,000; one with an `event_id` seen before does not count again."""
    services = services_of(request)
    now = services.clock.now()
    events: list[Event] = body if isinstance(body, list) else [body]
    rows = [{"at": now} | event.row() for event in events]
    for place, row in enumerate(rows):
        prefix = f"[{place}]." if isinstance(body, list) else ""
        if row["at"] > now + MAX_FUTURE_S:
            raise invalid(f"{prefix}at", f"is in the future: {row['at'] - now:,.0f} s from now")
        if row["kind"] in UNDELIVERABLE or (row["kind"] == "unsubscribe" and row.get("channel") is not None):
            try:
                services.meta.channel_codes([channel_of(row)])
            except ValueError as error:
                raise invalid(f"{prefix}channel", str(error)) from None
    counts = services.feedback.accept(rows, now)
    services.metrics.count("tidings_events_total", counts.accepted)
    return Response(orjson.dumps({"accepted": counts.accepted, "duplicates": counts.duplicates}), 202, media_type="application/json")
