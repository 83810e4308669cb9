"""GET /healthz: whether what is needed to serve answers."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.health import Health
from gateway.problems import away
from gateway.routing import services_of

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health(request: Request) -> dict[str, object]:
    """Answer 200 where decisions can be made, `degraded` while something stands in for a part, else 503 that says what is away.

    A load balancer that goes by it keeps gateways whose rankers are away: popularity ranks meanwhile.
    """
    health: Health = request.app.state.health
    found = await health.look()
    wrong = {part: fault for part, fault in found.items() if fault}
    if not wrong.keys() <= services_of(request).stand_ins:
        raise away("; ".join(f"{part} {fault}" for part, fault in wrong.items()))
    return {"status": "degraded" if wrong else "ok", "checks": {part: fault or "ok" for part, fault in found.items()}}
