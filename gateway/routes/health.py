"""GET /healthz: whether what is needed to serve answers."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.health import Health
from gateway.problems import away

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health(request: Request) -> dict[str, object]:
    """Answer 200 where the store and the ranker answer, else 503 that says which does not."""
    health: Health = request.app.state.health
    found = await health.look()
    if wrong := {part: fault for part, fault in found.items() if fault}:
        raise away("; ".join(f"{part} {fault}" for part, fault in wrong.items()))
    return {"status": "ok", "checks": dict.fromkeys(found, "ok")}
