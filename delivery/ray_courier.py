"""The courier as a Serve deployment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from ray import serve

from delivery.courier import Courier, StalledError
from lake.logs import SERVE_LOGS

MakeCourier = Callable[[str], Courier]
"""Assembles a courier for an owner name, in the replica's process."""

SHUTDOWN_S = 60.0


class Delivering:
    """Runs a courier in a thread with a loop of its own, so that Serve's loop always has time for health checks."""

    def __init__(self, make: MakeCourier) -> None:
        self._courier = make(serve.get_replica_context().replica_id.unique_id)
        self._thread = threading.Thread(target=self._deliver, name="courier", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raise where the courier's thread has died or delivers nothing; Serve then replaces the replica."""
        if not self._thread.is_alive():
            raise StalledError("the courier's thread has died; its log says why")
        self._courier.check()

    def __del__(self) -> None:
        """Lose nothing: finish the calls under way, put back the rest, give up the leases."""
        self._courier.stop()
        self._thread.join(SHUTDOWN_S)

    def _deliver(self) -> None:
        asyncio.run(self._courier.run())


CourierReplica = serve.deployment(
    name="Courier",
    num_replicas=1,
    health_check_period_s=10.0,
    graceful_shutdown_wait_loop_s=1.0,
    graceful_shutdown_timeout_s=SHUTDOWN_S + 10.0,
    ray_actor_options={"num_cpus": 0.25},
    logging_config=SERVE_LOGS,
)(Delivering)
"""The deployment: `CourierReplica.bind(make_courier)`."""
