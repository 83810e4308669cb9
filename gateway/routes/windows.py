"""POST /v1/windows/dry-run: what a scheduled window would send."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Request, Response

from gateway.models import WindowAnswer, WindowBody
from gateway.routing import BodyRoute, needs, services_of
from lake.decisions import DISPOSITIONS, REASONS, Decided
from lake.meta import Meta

router = APIRouter(route_class=BodyRoute, tags=["decisions"])


@router.post("/v1/windows/dry-run", response_model=WindowAnswer, openapi_extra=needs("read"))
def post_dry_run(request: Request, body: WindowBody) -> Response:
    """Decide for users as if their window opened now: logged and marked as dry, and nothing sent, held, spent or moved on."""
    services = services_of(request)
    decided = services.rehearse(list(dict.fromkeys(body.users)), services.clock.now())
    return Response(_packed(decided, services.meta), media_type="application/json")


def _packed(decided: Decided, meta: Meta) -> bytes:
    given = decided.candidates
    columns = {
        "user_id": _named(given.users, given.user),
        "item_id": _named(given.items, given.item),
        "channel": _named(meta.channels, given.channel),
        "source": _named(given.sources, given.source),
        "disposition": _named(DISPOSITIONS, decided.disposition),
        "reason": _named(REASONS, decided.reason),
        "probability": _numbers(decided.probability),
        "score": _numbers(decided.value),
        "threshold": _numbers(decided.threshold),
        "allowance": decided.allowance.tolist(),
    }
    rows = [dict(zip(columns, row, strict=True)) | {"dry_run": True} for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"decision_id": decided.decision_ids[0], "dry_run": True, "results": rows})


def _named(names: list[str] | tuple[str, ...], codes: npt.NDArray[np.integer]) -> list[str]:
    return [names[code] for code in codes.tolist()]


def _numbers(values: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 6) for value in values.tolist()]
