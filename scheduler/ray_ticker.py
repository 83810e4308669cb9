"""The scheduler as a Serve deployment: one replica that ticks, with others standing by where more are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ray import serve

from lake.logs import SERVE_LOGS
from scheduler.report import LaneReport
from scheduler.ticker import Ticker, TickLoop

MakeTicker = Callable[[str], Ticker]
"""Assembles a ticker for an owner name, in the replica's process."""


class SchedulerReplica:
    """Ticks by itself where `ticking`, and whenever it is told to. `make`: assembles the ticker."""

    def __init__(self, make: MakeTicker, ticking: bool = True) -> None:
        self._loop = TickLoop(make(serve.get_replica_context().replica_id.unique_id))
        self._ticking = ticking
        if ticking:
            self._loop.start()

    async def tick(self) -> LaneReport | None:
        """Decide everybody who is due now; None where another scheduler leads or a tick is under way."""
        return await asyncio.to_thread(self._loop.ticker.tick)

    async def every_day(self) -> bool:
        """Do the day's work now; False where another scheduler leads."""
        return await asyncio.to_thread(self._loop.ticker.every_day)

    def check_health(self) -> None:
        """Raise where the loop has stopped; a store that is away is no reason to replace it, the next tick tries again."""
        if self._ticking and not self._loop.scheduler.running:
            raise RuntimeError("the tick loop has stopped")

    def __del__(self) -> None:
        """Finish the tick under way and give up the lead."""
        self._loop.stop()


Scheduler = serve.deployment(
    name="Scheduler",
    num_replicas=1,
    graceful_shutdown_wait_loop_s=1.0,
    graceful_shutdown_timeout_s=60.0,
    ray_actor_options={"num_cpus": 0.25},
    logging_config=SERVE_LOGS,
)(SchedulerReplica)
"""`Scheduler.bind(make, ticking)`."""
