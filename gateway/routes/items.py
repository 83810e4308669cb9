"""PUT and DELETE /v1/items/{id}: what there is to tell about."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.limits import MAX_FUTURE_S
from gateway.models import Id, ItemColumns, item_row
from gateway.problems import invalid, without_id
from gateway.routing import KeyedRoute, needs, services_of

router = APIRouter(route_class=KeyedRoute, tags=["items"])


@router.put("/v1/items/{item_id:path}", status_code=204, response_model=None, openapi_extra=needs("events"))
def put_item(request: Request, item_id: Id, body: ItemColumns) -> Response:
    """Insert or replace an item; the next window may tell of it."""
    services = services_of(request)
    now = services.clock.now()
    row = item_row(item_id, without_id(body.row(), "item_id", item_id), now)
    if row["created_at"] > now + MAX_FUTURE_S:
        raise invalid("created_at", f"is in the future: {row['created_at'] - now:,.0f} s from now")
    services.items.put([row])
    return Response(status_code=204)


@router.delete("/v1/items/{item_id:path}", status_code=204, response_model=None, openapi_extra=needs("events"))
def delete_item(request: Request, item_id: Id) -> Response:
    """Cancel an item: nothing more is told of it, what waits is not sent and gives its unit back, and inboxes show it no longer."""
    services_of(request).items.delete([item_id])
    return Response(status_code=204)
