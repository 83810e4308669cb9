"""POST /v1/urgent: tell people now, if it is worth it now."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from functools import partial

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from gateway.api_keys import ApiKey
from gateway.fanout import Fanout
from gateway.idempotency import MAX_KEY_CHARS, Turn, decision_id_of, hash_of, record_name
from gateway.lane import LaneError, rows_of
from gateway.limits import MAX_USERS
from gateway.models import UrgentAnswer, UrgentBody
from gateway.problems import ProblemError, away, forbidden, in_progress, invalid
from gateway.routing import BodyRoute, key_of, needs, services_of
from gateway.services import Services
from gateway.shedding import Load
from gateway.urgent import UrgentDesk, in_future
from ranking.popularity import MODEL_ID as POPULARITY
from scheduler.lanes import UrgentRequest, UrgentResult

JSON = "application/json"
CRITICAL = "urgent:critical"
FIRST_LOOK_S, LAST_LOOK_S = 0.02, 0.25

router = APIRouter(route_class=BodyRoute, tags=["urgent"])


@router.post("/v1/urgent", status_code=202, response_model=UrgentAnswer, openapi_extra=needs("urgent", CRITICAL))
async def post_urgent(request: Request, body: UrgentBody) -> Response:
    """Decide now who is told of an item, and tell them. 202 means that the decision and every `send` row are on disk."""
    services, key = services_of(request), key_of(request)
    if body.critical and not key.may([CRITICAL]):
        raise forbidden([CRITICAL])
    if not body.critical or body.dry_run:
        load: Load = request.app.state.load
        load.check("read" if body.dry_run else "urgent")
    _check_channels(services, body)
    idempotency_key = request.headers.get("idempotency-key")
    if idempotency_key is None:
        answer = await _answer(request, body, key, uuid.uuid4().hex)
    else:
        answer = await _answer_once(request, body, key, idempotency_key)
    return Response(answer, 202, media_type=JSON)


def _check_channels(services: Services, body: UrgentBody) -> None:
    try:
        services.meta.channel_codes(body.channels)
    except ValueError as error:
        raise invalid("channels", str(error)) from None
    missing = [name for name in body.channels if services.channels is not None and name not in services.channels]
    if missing:
        there = ", ".join(services.channels or ()) or "none"
        raise invalid("channels", f"no channel {missing[0]!r} is set up here, only {there}; `channels` in the settings sets up others")


async def _answer(request: Request, body: UrgentBody, key: ApiKey, decision_id: str) -> bytes:
    services, topic = services_of(request), body.topic
    users = list(dict.fromkeys(body.users or []))
    if topic is not None:
        users = await run_in_threadpool(services.lane.audience, topic, MAX_USERS)
        if not users:
            raise invalid("topic", f"nobody follows {topic!r}")
    asked = _request(body, users, key, decision_id)
    if topic is not None and len(users) > MAX_USERS:
        if body.dry_run:
            raise invalid("dry_run", f"{topic!r} has over {MAX_USERS:,} followers, too many to rehearse; name some of them as users")
        fanout: Fanout = request.app.state.fanout
        await run_in_threadpool(lambda: fanout.accept(_put_down(services, asked), topic))
        return orjson.dumps({"decision_id": decision_id, "status": "accepted"})
    return await _decided(request, asked)


def _request(body: UrgentBody, users: list[str], key: ApiKey, decision_id: str) -> UrgentRequest:
    item = None if body.item is None else body.item.row()
    return UrgentRequest(
        item=item,
        item_id=body.item_id or str(item and item["item_id"]),
        users=users,
        channels=tuple(dict.fromkeys(body.channels)),
        critical=body.critical,
        key_id=key.id,
        decision_id=decision_id,
        critical_quota=key.critical_quota,
        dry_run=body.dry_run,
    )


def _put_down(services: Services, asked: UrgentRequest) -> UrgentRequest:
    """Put a request's item into the store, once: were it put with every page, it could not be cancelled on the way."""
    if asked.item is not None:
        now = services.clock.now()
        if (wrong := in_future(asked, now)) is not None:
            raise _problem(wrong)
        known = services.items.get([asked.item_id])[0] or {}
        services.items.put([{"created_at": known.get("created_at", now), **asked.item}])
    return replace(asked, item=None)


async def _decided(request: Request, asked: UrgentRequest) -> bytes:
    desk: UrgentDesk = request.app.state.desk
    started = time.perf_counter()
    with desk.room(rows_of(asked), critical=asked.critical and not asked.dry_run):
        result = await request.app.state.decide(asked)
    desk.metrics.observe("tidings_urgent_latency_ms", (time.perf_counter() - started) * 1e3)
    if isinstance(result, LaneError):
        raise _problem(result)
    return _packed(result)


def _problem(error: LaneError) -> ProblemError:
    if error.kind == "invalid":
        return invalid(error.field, error.detail)
    return away(error.detail)


def _packed(result: UrgentResult) -> bytes:
    columns = zip(result.user_id, result.channel, result.disposition, result.score, result.threshold, result.reason, strict=True)
    rows = [
        {"user_id": user, "channel": channel, "disposition": disposition, "score": score, "threshold": threshold, "reason": reason}
        for user, channel, disposition, score, threshold, reason in columns
    ]
    marked = {"dry_run": True} if result.dry_run else {}
    fallback = {"fallback": POPULARITY} if result.model_id == POPULARITY else {}
    rows = [row | marked for row in rows] if marked else rows
    return orjson.dumps({"decision_id": result.decision_id, **marked, **fallback, "results": rows})


async def _answer_once(request: Request, body: UrgentBody, key: ApiKey, idempotency_key: str) -> bytes:
    if not 0 < len(idempotency_key) <= MAX_KEY_CHARS or not idempotency_key.isprintable():
        raise invalid("Idempotency-Key", f"must be 1 to {MAX_KEY_CHARS} printable characters")
    services = services_of(request)
    name, body_hash = record_name(key.id, idempotency_key), hash_of(await request.body())
    turn = await _turn(services, name, body_hash)
    if turn.kind == "answered":
        return turn.answer
    try:
        answer = await _answer(request, body, key, decision_id_of(name, body_hash))
    except BaseException:
        # Nothing was answered, so the caller will come again: it must not wait for a lease that nobody holds.
        await asyncio.shield(run_in_threadpool(_abandon, services, name, body_hash))
        raise
    return await run_in_threadpool(lambda: services.idempotency.finish(name, body_hash, answer, services.clock.now()))


def _abandon(services: Services, name: str, body_hash: str) -> None:
    try:
        services.idempotency.abandon(name, body_hash)
    except services.away_errors:
        return  # the lease lapses by itself


async def _turn(services: Services, name: str, body_hash: str) -> Turn:
    """Return this request's turn, waiting a while where the first one of its key is being decided."""
    begin = partial(_begin, services, name, body_hash)
    deadline, pause = time.monotonic() + services.limits.pending_wait_s, FIRST_LOOK_S
    while (turn := await run_in_threadpool(begin)).kind == "wait":
        if time.monotonic() + pause > deadline:
            raise in_progress()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK_S)
    if turn.kind == "mismatch":
        raise ProblemError(422, "idempotency-key-reused", "this Idempotency-Key was used with another body; use a new one")
    return turn


def _begin(services: Services, name: str, body_hash: str) -> Turn:
    return services.idempotency.begin(name, body_hash, services.clock.now())
