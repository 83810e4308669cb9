"""The gateway as a Ray Serve deployment: the application behind Serve's proxy, urgent requests merged by Serve's batcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from gateway.app import create_app
from gateway.lane import rows_of
from gateway.limits import Limits
from gateway.ray_metrics import RayMetrics
from gateway.services import Services
from gateway.urgent import Answer, UrgentDesk
from lake.logs import SERVE_LOGS
from lake.metrics import Metrics
from scheduler.lanes import UrgentRequest

Assemble = Callable[[Mapping[str, DeploymentHandle[Any]], Metrics], Services]
"""Makes the services inside the replica, of the handles it was deployed with; must be importable by name, or picklable."""

DEFAULT_LIMITS = Limits()
BATCHES_AT_ONCE = 4
"""While one batch waits for the ranker or the store, the next one is being prepared."""


class GatewayReplica:
    """One replica. `handles`: deployments by name, for `assemble`."""

    def __init__(self, assemble: Assemble, handles: Mapping[str, DeploymentHandle[Any]], limits: Limits = DEFAULT_LIMITS) -> None:
        self.services = replace(assemble(handles, RayMetrics()), limits=limits)
        parts = self.services
        self.desk = UrgentDesk(parts.lane, parts.clock, parts.metrics, limits, parts.away_errors)
        self._web = create_app(parts, self.desk, self.decide)
        self._merged.set_max_batch_size(limits.batch_requests)  # type: ignore[attr-defined]  # Serve adds it to the method
        self._merged.set_batch_wait_timeout_s(limits.batch_wait_s)  # type: ignore[attr-defined]

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Serve asks for it once the replica is made, so nothing of it is ever pickled."""
        return self._web

    async def decide(self, request: UrgentRequest) -> Answer:
        """Decide a request together with those that came at the same time, a large one or a dry run by itself."""
        if request.dry_run or rows_of(request) > self.services.limits.batch_rows:
            return await self.desk.decide(request)
        return await self._merged(request)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002, max_concurrent_batches=BATCHES_AT_ONCE)
    async def _merged(self, requests: list[UrgentRequest]) -> list[Answer]:
        return await self.desk.decide_together(requests)

    def check_health(self) -> None:
        """Raise where this replica is stuck, which a new one would mend.

        A store or a ranker that is away is /healthz's to tell: a new gateway would not bring it back.
        """
        self.desk.check()
        self._web.state.fanout.check()


Gateway = serve.deployment(
    name="Gateway",
    max_ongoing_requests=2000,  # the desk says 429 long before Serve would queue
    graceful_shutdown_wait_loop_s=1.0,
    graceful_shutdown_timeout_s=30.0,
    health_check_period_s=5.0,
    health_check_timeout_s=10.0,
    logging_config=SERVE_LOGS,
)(serve.ingress()(GatewayReplica))
"""The ingress deployment: `Gateway.bind(assemble, handles, limits)`."""
