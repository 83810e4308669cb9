"""The desk that runs the lane, and the checks behind /healthz."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from functools import partial

import pytest

from gateway.health import Health
from gateway.lane import LaneError, MemoryLane
from gateway.limits import MAX_FUTURE_S, Limits
from gateway.urgent import UrgentDesk
from lake.clock import HeldClock
from lake.metrics import MemoryMetrics
from scheduler.lanes import UrgentRequest, UrgentResult
from tests.integration.waiting import LONG_S, let_time_fly, until
from tests.unit.gateway.conftest import NOW


def _desk(lane: MemoryLane, elapsed: list[float] | None = None) -> UrgentDesk:
    passed = elapsed if elapsed is not None else [0.0]
    return UrgentDesk(lane, HeldClock(NOW), MemoryMetrics(), Limits(), (ConnectionError,), elapsed=lambda: passed[0])


def _request(name: str, created_at: float = NOW) -> UrgentRequest:
    return UrgentRequest({"item_id": name, "created_at": created_at}, name, ["u1"], ("push",), False, "k", f"d-{name}")


async def test_answers_come_in_the_order_of_the_requests_and_bad_ones_do_not_spoil_the_rest() -> None:
    lane = MemoryLane()
    requests = [_request("a"), _request("b", NOW + MAX_FUTURE_S + 1), _request("c", NOW + MAX_FUTURE_S)]
    first, second, third = await _desk(lane).decide_together(requests)
    assert isinstance(first, UrgentResult)
    assert isinstance(second, LaneError)
    assert isinstance(third, UrgentResult)
    assert (first.decision_id, second.field, third.decision_id) == ("d-a", "item.created_at", "d-c")
    assert [request.item_id for request in lane.calls[0]] == ["a", "c"]


async def test_the_lane_is_left_alone_where_nothing_may_be_decided() -> None:
    lane = MemoryLane()
    (answer,) = await _desk(lane).decide_together([_request("b", NOW + 1e6)])
    assert isinstance(answer, LaneError)
    assert lane.calls == []


async def test_where_a_part_is_away_everyone_is_told_to_come_back() -> None:
    def away(_: object) -> None:
        raise ConnectionError("refused")

    answers = await _desk(MemoryLane(before=away)).decide_together([_request("a"), _request("b")])
    assert [answer.kind for answer in answers if isinstance(answer, LaneError)] == ["away", "away"]


async def test_a_lane_that_does_not_come_back_is_noticed() -> None:
    entered, release = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        entered.set()
        release.wait(30)

    elapsed = [0.0]
    desk = _desk(MemoryLane(before=hang), elapsed)
    deciding = asyncio.ensure_future(desk.decide(replace(_request("a"))))
    await asyncio.to_thread(entered.wait, 30)
    elapsed[0] = desk.limits.stuck_after_s
    desk.check()
    elapsed[0] += 0.1
    with pytest.raises(RuntimeError, match="has not come back for 30 s"):
        desk.check()
    release.set()
    await deciding
    desk.check()


def _has_answered(health: Health, before: asyncio.Future[object] | None) -> bool:
    ranker = health._running.get("ranker")
    return ranker is not None and ranker is not before and ranker.done()


async def test_a_check_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.health.PATIENCE_S", LONG_S)
    release, calls = threading.Event(), []

    def hang() -> None:
        calls.append(1)
        release.wait(30)

    health = Health({"store": hang, "ranker": lambda: None})
    for _ in range(3):
        answered = partial(_has_answered, health, health._running.get("ranker"))
        looking = asyncio.create_task(health.look())
        await asyncio.to_thread(until, answered, LONG_S, "the ranker has answered")
        let_time_fly()
        found = await looking
        assert "has not answered" in found["store"]
        assert found["ranker"] == ""
    assert len(calls) == 1
    release.set()
    health.close()


async def test_a_check_that_fails_says_why() -> None:
    def refused() -> None:
        raise ConnectionError("refused")

    assert await Health({"store": refused}).look() == {"store": "ConnectionError: refused"}
