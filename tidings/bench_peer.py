"""The peer of `tidings bench urgent`: plain FastAPI on uvicorn that scores a request's users with the same model in its own process.

It does the least that a scoring service can do: feature rows lie ready in memory, and nothing is looked up, decided, reserved,
put on disk or logged.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

from ranking import bundle as bundles
from tidings.ports import free_port

NAME = "plain FastAPI on uvicorn, model in process, one worker per core, no features, no budgets"
MODEL, ROWS = "TIDINGS_BENCH_MODEL", "TIDINGS_BENCH_ROWS"
START_TIMEOUT_S = 180.0


def create_app() -> FastAPI:
    """Return the application of one worker; the environment names the model and the feature rows (a .npy file)."""
    bundle = bundles.load(Path(os.environ[MODEL]), threads=1, verified=True)
    rows = np.load(os.environ[ROWS])
    app = FastAPI()

    @app.post("/v1/urgent")
    async def score(request: Request) -> Response:
        users = orjson.loads(await request.body())["users"]
        probability = bundle.booster.inplace_predict(rows[: len(users)])
        results = [{"user_id": user, "score": score} for user, score in zip(users, probability.tolist(), strict=True)]
        return Response(orjson.dumps({"results": results}), media_type="application/json")

    return app


@contextmanager
def peer(model: Path, rows: Path, workers: int) -> Iterator[tuple[str, int]]:
    """Run the peer as processes of its own; yields its address. Raises RuntimeError where it does not start."""
    address = ("127.0.0.1", free_port())
    command = [sys.executable, "-m", "uvicorn", "tidings.bench_peer:create_app", "--factory", "--workers", str(workers)]
    command += ["--host", address[0], "--port", str(address[1]), "--log-level", "warning", "--no-access-log"]
    process = subprocess.Popen(command, env=os.environ | {MODEL: str(model), ROWS: str(rows)})
    try:
        _await(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def _await(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            socket.create_connection(address, timeout=1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the peer of the bench did not start; its error is printed above")
