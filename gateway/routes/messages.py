"""GET /v1/messages/{grant_id}: what became of one message."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from delivery.outbox import STATES
from gateway.models import Id
from gateway.problems import not_found
from gateway.routing import KeyedRoute, needs, services_of
from gateway.stories import told

router = APIRouter(route_class=KeyedRoute, tags=["decisions"])

GrantId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="The `grant_id` of a decision, the `send_id` of an event.")]


@router.get("/v1/messages/{grant_id}", openapi_extra=needs("read", "urgent"))
def get_message(request: Request, grant_id: GrantId, user_id: Id) -> dict[str, Any]:
    """Return a message's story with times: decided, queued, attempted, how it ended, and what its reader did.

    Every attempt is there with its time and what was wrong with it; what is not delivered yet tells when it is next tried (`retrying`).
    `status` is how its delivery stands: queued, or the last of accepted, failed, expired, cancelled, suppressed, unknown.
    """
    services = services_of(request)
    steps = services.story(user_id, grant_id, services.clock.now())
    if not steps:
        raise not_found(f"user {user_id!r} has no message {grant_id}; /v1/decisions lists what there is")
    status = [step["step"] for step in steps if step["step"] in STATES][-1:]
    return {"grant_id": grant_id, "user_id": user_id, "status": status[0] if status else "queued", "story": told(steps)}
