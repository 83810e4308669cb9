"""The demo's hand on the scheduler of a running system."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray import serve

from lake import logs
from scheduler.report import LaneReport
from tidings.home import State

TICK_TIMEOUT_S = 120.0


@contextmanager
def scheduler_tick(state: State) -> Iterator[Callable[[], LaneReport | None]]:
    """Connect to the system's Ray and yield its scheduler's tick; Ray's settings must be in the environment already."""
    logs.quieten_serve()
    ray.init(address=state.ray_address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        handle = serve.get_deployment_handle("Scheduler", "tidings")

        def tick() -> LaneReport | None:
            report: LaneReport | None = handle.tick.remote().result(timeout_s=TICK_TIMEOUT_S)
            return report

        yield tick
    finally:
        ray.shutdown()
