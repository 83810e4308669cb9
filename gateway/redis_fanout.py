"""Jobs for large topics in the store: a sorted set of leases, and hashes of owners and jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgpack
from redis import Redis
from redis.commands.core import Script

from gateway.fanout import LEASE_S, Job
from lake.keys import LAYOUT
from lake.redis_scripts import script_of

NAMES = [f"{LAYOUT}:{{fanout}}:{part}" for part in ("leases", "owners", "jobs")]


@dataclass(frozen=True)
class RedisFanout:
    """The jobs on a Redis-protocol server; every step is one script, and repeating a step changes nothing."""

    client: Redis
    _scripts: dict[str, Script] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for step in ("put", "claim", "renew", "finish"):
            self._scripts[step] = script_of(self.client, "gateway", f"fanout_{step}")

    def put(self, job: Job, now: float) -> None:
        """See FanoutStore."""
        self._scripts["put"](NAMES, [job.request.decision_id, msgpack.packb(job.as_row()), now])

    def claim(self, worker: str, now: float) -> Job | None:
        """See FanoutStore."""
        packed = self._scripts["claim"](NAMES, [worker, now, LEASE_S])
        return None if packed is None else Job.of_row(msgpack.unpackb(packed))

    def renew(self, decision_id: str, worker: str, until: float) -> bool:
        """See FanoutStore."""
        return bool(self._scripts["renew"](NAMES[:2], [decision_id, worker, until]))

    def finish(self, decision_id: str, worker: str) -> None:
        """See FanoutStore."""
        self._scripts["finish"](NAMES, [decision_id, worker])
