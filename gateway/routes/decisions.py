"""GET /v1/decisions: what was decided, and on what."""

from __future__ import annotations

from typing import Annotated

import orjson
import pandas as pd
from fastapi import APIRouter, Query, Request, Response

from gateway.explaining import explained
from gateway.models import Id
from gateway.problems import invalid
from gateway.routing import KeyedRoute, needs, services_of
from ranking.explain import MOST_ROWS

router = APIRouter(route_class=KeyedRoute, tags=["decisions"])


@router.get("/v1/decisions", response_model=None, openapi_extra=needs("read", "urgent"))
def get_decisions(
    request: Request,
    user_id: Id | None = None,
    decision_id: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=50_000)] = 1_000,
    explain: Annotated[bool, Query(description="Say of each row what made its score and what would have changed the decision.")] = False,
) -> Response:
    """Return the newest rows of a user or of a decision: probability, value, threshold, allowance, propensity, model and reason.

    With `explain`, at most 50 rows, each with `explanation`: the contribution of every feature, which with the base sum to the
    margin, and the same in plain words.
    """
    if user_id is None and decision_id is None:
        raise invalid("user_id", "give user_id or decision_id, or both")
    services = services_of(request)
    limit = min(limit, MOST_ROWS) if explain else limit
    frame = services.decisions.find(services.clock.now(), user_id=user_id, decision_id=decision_id, limit=limit)
    if explain:
        told = pd.Series(explained(frame, services.explain), index=frame.index, dtype=object)
        frame = frame.assign(explanation=told)
    return Response(b'{"decisions":' + _packed(frame) + b"}", media_type="application/json")


def _packed(frame: pd.DataFrame) -> bytes:
    shown = frame.assign(at=[moment.isoformat() for moment in frame["at"]])
    rows = shown.astype(object).where(shown.notna(), None).to_dict("records")
    return orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
