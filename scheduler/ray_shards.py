"""Shards as Ray tasks: one task per shard, a bounded number in flight, retried where a worker dies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from lake.clock import Clock
from scheduler.lanes import ScheduledLane
from scheduler.report import LaneReport
from scheduler.ticker import ShardWork

log = logging.getLogger(__name__)

MakeLane = Callable[[], tuple[ScheduledLane, Clock]]
"""Returns the lane of whatever process runs a shard; it is asked for every shard, and keeps what it has assembled."""

ROUTER_ENV = {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1"}
"""Without it a task that calls Serve handles in throughput mode finds no event loop, or a closed one in a reused worker."""


@ray.remote(max_retries=3, num_cpus=0.5, runtime_env={"env_vars": ROUTER_ENV})
def decide_shard(make: MakeLane, work: ShardWork) -> LaneReport:
    """Decide one shard's due users; a retry finds those already decided gone from the slot."""
    lane, clock = make()
    return lane.run(work.shard, work.slot, work.fence, clock)


@dataclass(frozen=True)
class RayShards:
    """A ShardRunner on a Ray cluster. `in_flight`: most shards decided at once."""

    make: MakeLane
    in_flight: int = 8

    def run(self, work: Sequence[ShardWork]) -> LaneReport:
        """See ShardRunner."""
        total = LaneReport()
        waiting = list(reversed(work))
        running: dict[ray.ObjectRef[LaneReport], ShardWork] = {}
        while waiting or running:
            while waiting and len(running) < self.in_flight:
                shard = waiting.pop()
                running[decide_shard.remote(self.make, shard)] = shard
            done, _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done[0])
            try:
                total.add(ray.get(done[0]))
            except RayError:
                log.exception("shard %d failed at slot %d; its users stay due and the next tick resumes them", shard.shard, shard.slot)
        return total
