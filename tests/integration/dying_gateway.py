"""A gateway that is killed when what it decided is committed and nobody has been told: a program, for it takes its process along.

`python -m tests.integration.dying_gateway STORE_URL FOLDER TOKEN BODY` posts BODY with the Idempotency-Key "once" and dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from unittest.mock import MagicMock

import httpx
from ray.exceptions import RayActorError

import serve_app
from gateway.app import create_app
from gateway.redis_idempotency import RedisIdempotency
from gateway.services import Services
from lake.metrics import MemoryMetrics

KEY = {"Idempotency-Key": "once"}


class Doomed(RedisIdempotency):
    """Answers that nobody lives to keep."""

    def finish(self, name: str, body_hash: str, answer: bytes, now: float) -> bytes:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def services(url: str, folder: str) -> Services:
    """Return a gateway's services as a deployment has them, its ranker away."""
    ranker = MagicMock()
    ranker.score.remote.side_effect = RayActorError()
    settings = serve_app.Settings(model="/none", redis_url=url, shards=4, history=folder)
    return serve_app.gateway_services(settings, {"Ranker": ranker}, MemoryMetrics())


async def post(parts: Services, token: str, body: bytes) -> httpx.Response:
    """Post an urgent request with KEY to a gateway of these services."""
    app = create_app(parts)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **KEY}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t", headers=headers) as client:
        answer = await client.post("/v1/urgent", content=body)
    app.state.desk.close()
    app.state.health.close()
    return answer


def main(url: str, folder: str, token: str, body: str) -> None:
    """Post, and die before the answer is kept."""
    parts = services(url, folder)
    kept = parts.idempotency
    assert isinstance(kept, RedisIdempotency)
    asyncio.run(post(replace(parts, idempotency=Doomed(kept.client, kept.keys)), token, body.encode()))


if __name__ == "__main__":
    main(*sys.argv[1:])
