"""Shards in the ticker's own process, one after another: what needs no cluster, such as a drill on one machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lake.clock import Clock
from scheduler.lanes import ScheduledLane
from scheduler.report import LaneReport
from scheduler.ticker import ShardWork

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalShards:
    """A ShardRunner without a cluster."""

    lane: ScheduledLane
    clock: Clock

    def run(self, work: Sequence[ShardWork]) -> LaneReport:
        """See ShardRunner."""
        total = LaneReport()
        for shard in work:
            try:
                total.add(self.lane.run(shard.shard, shard.slot, shard.fence, self.clock))
            except Exception:
                log.exception("shard %d failed at slot %d; its users stay due and the next tick resumes them", shard.shard, shard.slot)
        return total
