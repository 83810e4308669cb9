"""POST /v1/reports: bounces and complaints as they come by mail."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from delivery.reports import BadReportError, Report, read_report
from gateway.problems import invalid
from gateway.routing import KeyedRoute, needs, services_of

router = APIRouter(route_class=KeyedRoute, tags=["events"])

MAIL = {"required": True, "content": {"message/rfc822": {"schema": {"type": "string", "format": "binary"}}}}


class ReportAnswer(BaseModel):
    """What a report told, and of which message; `duplicate`: it had told so before."""

    kind: str
    user_id: str
    channel: str
    send_id: str
    duplicate: bool


@router.post("/v1/reports", status_code=202, response_model=ReportAnswer, openapi_extra=needs("events") | {"requestBody": MAIL})
async def post_report(request: Request) -> Response:
    """Take in a delivery status notification (RFC 3464) or an abuse report (RFC 5965), the mail as it came.

    It must quote the message that it is about. A bounce for good suppresses the address, a complaint the user's channel too.
    """
    raw = await request.body()
    return await run_in_threadpool(_accept, request, raw)


def _accept(request: Request, raw: bytes) -> Response:
    services = services_of(request)
    try:
        report: Report = read_report(raw, services.links)
        counts = services.feedback.accept_report(report, services.clock.now())
    except BadReportError as error:
        raise invalid("body", str(error)) from None
    services.metrics.count("tidings_events_total", counts.accepted)
    answer = ReportAnswer(
        kind=report.kind, user_id=report.user_id, channel=report.channel, send_id=report.grant_id, duplicate=not counts.accepted
    )
    return Response(orjson.dumps(answer.model_dump()), 202, media_type="application/json")
