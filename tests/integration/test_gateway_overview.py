"""The console's numbers, read from a real store."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from redis import Redis

from gateway.redis_overview import RedisOverview
from lake.keys import Keys
from lake.meta import Meta
from lake.metrics import CANDIDATES, LAST_SLOT, MODEL_ID, WINDOWS, sends_field
from scheduler.redis_report import RedisRecorder
from scheduler.report import LaneReport

META = Meta(shards=4)
NOW = 1_700_000_000.0


def _overview(client: Redis) -> RedisOverview:
    return RedisOverview(client, META, np.full(len(META.channels), 3, np.uint8))


def test_an_empty_store_has_an_empty_overview(redis_client: Redis) -> None:
    overview = _overview(redis_client)(NOW)
    assert (overview.windows, overview.outbox_backlog, overview.budget_use, overview.at) == (0, 0, {}, NOW)


def test_what_shards_counted_is_added_up_once_a_second(redis_client: Redis) -> None:
    for shard in range(META.shards):
        name = META.keys.of_shard(Keys.METRICS, shard)
        redis_client.hincrby(name, WINDOWS, 2)
        redis_client.hincrby(name, CANDIDATES, 5)
        redis_client.hincrby(name, sends_field("urgent", "push"), 1)
        redis_client.hset(name, mapping={LAST_SLOT: str(shard), MODEL_ID: f"m{shard}"})
    read = _overview(redis_client)
    overview = read(NOW)
    assert (overview.windows, overview.candidates, overview.sends) == (8, 20, {"urgent": {"push": 4}})
    assert (overview.last_slot_at, overview.model_id) == (2700.0, "m3")
    redis_client.hincrby(META.keys.of_shard(Keys.METRICS, 0), WINDOWS, 1)
    assert read(NOW + 0.5).windows == 8
    assert read(NOW + 1.5).windows == 9


def test_what_the_last_report_of_a_burst_told_is_written_within_a_second_and_waits_for_no_other(redis_client: Redis) -> None:
    seconds = 100.0
    planned: list[tuple[float, Callable[[], None]]] = []
    record = RedisRecorder(redis_client, META, lambda: seconds, lambda after_s, call: planned.append((after_s, call)))
    for _ in range(3):
        record("scheduled", LaneReport(users=2, slot=7))
    assert [after_s for after_s, _ in planned] == [1.0]
    assert _overview(redis_client)(NOW).windows == 2
    planned[0][1]()
    assert _overview(redis_client)(NOW).windows == 6
    seconds = 100.25
    record("urgent", LaneReport(candidates=5))
    assert [after_s for after_s, _ in planned] == [1.0, 0.75]
