"""What every event feed promises: each event counts once, and leaves only when it is kept elsewhere."""

from __future__ import annotations

from typing import cast

import pandas as pd
import pytest
from redis import Redis

from delivery.feedback import EventLog, EventRow, MemoryEventLog, drain_events
from delivery.redis_feedback import RedisEventLog
from lake.ids import shard_of
from lake.keys import Keys

SHARDS = 4
SHARD = shard_of("ada", SHARDS)


@pytest.fixture(params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> EventLog:
    if request.param == "memory":
        return MemoryEventLog(SHARDS)
    return RedisEventLog(cast(Redis, request.getfixturevalue("redis_client")), Keys(SHARDS))


def an_event(event_id: str | None = None, user_id: str = "ada", **more: object) -> EventRow:
    row: dict[str, object] = {"user_id": user_id, "kind": "open", "at": 5.0} | more
    return row | ({"event_id": event_id} if event_id else {})


def test_an_event_id_counts_once(log: EventLog) -> None:
    assert log.append([an_event("e1"), an_event("e1"), an_event("e2")], "call-1", 5.0) == [True, False, True]
    assert log.append([an_event("e1")], "call-2", 5.0) == [False]
    assert [row["event_id"] for _, row in log.read(SHARD, 10)] == ["e1", "e2"]


def test_events_without_an_id_all_count(log: EventLog) -> None:
    assert log.append([an_event(), an_event()], "call-1", 5.0) == [True, True]
    assert log.append([an_event()], "call-2", 5.0) == [True]
    assert len(log.read(SHARD, 10)) == 3


def test_two_users_may_use_the_same_event_id(log: EventLog) -> None:
    assert log.append([an_event("e1"), an_event("e1", "bob")], "call-1", 5.0) == [True, True]


def test_repeating_a_call_after_a_lost_reply_gives_the_same_answer_and_no_second_event(log: EventLog) -> None:
    rows = [an_event("e1"), an_event("e1"), an_event()]
    assert log.append(rows, "call-1", 5.0) == log.append(rows, "call-1", 5.0) == [True, False, True]
    assert len(log.read(SHARD, 10)) == 2


def test_events_come_back_as_they_were(log: EventLog) -> None:
    row = an_event("e1", item_id="i1", note="CR\r\nNUL\0", utc_offset_minutes=-60)
    log.append([row], "call-1", 5.0)
    assert [found for _, found in log.read(SHARD, 10)] == [row]


def test_events_lie_in_their_users_shards(log: EventLog) -> None:
    users = [f"u{number}" for number in range(20)]
    log.append([an_event(user_id=user) for user in users], "call-1", 5.0)
    for shard in range(SHARDS):
        assert [row["user_id"] for _, row in log.read(shard, 100)] == [user for user in users if shard_of(user, SHARDS) == shard]


def test_draining_moves_events_to_the_sink_as_a_table(log: EventLog) -> None:
    log.append([an_event("e1"), an_event("e2", item_id="i1")], "call-1", 5.0)
    frames: list[tuple[pd.DataFrame, int]] = []
    assert drain_events(log, SHARD, lambda frame, shard, *_: frames.append((frame, shard))) == 2
    ((frame, shard),) = frames
    assert shard == SHARD
    assert frame["at"].tolist() == [pd.Timestamp(5, unit="s", tz="UTC")] * 2
    assert drain_events(log, SHARD, lambda *_: pytest.fail("there is nothing left")) == 0


def test_a_drain_that_fails_keeps_the_events_and_begins_with_the_same_one(log: EventLog) -> None:
    log.append([an_event("e1")], "call-1", 5.0)
    firsts: list[str] = []

    def broken(frame: pd.DataFrame, shard: int, first: str, last: str) -> None:
        firsts.append(first)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        drain_events(log, SHARD, broken)
    log.append([an_event("e2")], "call-2", 5.0)
    assert drain_events(log, SHARD, lambda _frame, _shard, first, _last: firsts.append(first)) == 2
    assert firsts[0] == firsts[1]
