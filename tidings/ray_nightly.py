"""Asks the scheduler of a running system to do the day's work now."""

from __future__ import annotations

import logging

import ray
from ray import serve

from lake import logs
from tidings.home import State


def do_days_work(state: State, timeout_s: float) -> bool:
    """Have it done and wait; returns False where another scheduler leads. Ray's settings must be in the environment already.

    Raises TimeoutError where it takes longer.
    """
    logs.quieten_serve()
    ray.init(address=state.ray_address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        handle = serve.get_deployment_handle("Scheduler", "tidings")
        return bool(handle.every_day.remote().result(timeout_s=timeout_s))
    finally:
        ray.shutdown()
