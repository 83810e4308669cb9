"""Where the tests' stores keep their files, and clients that a machine which stands still for a while does not deceive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

IN_MEMORY = Path("/dev/shm")
LEAST_FREE = 6 << 30
"""Bytes: an append-only file of a whole run has some hundred million of them, and Ray takes its share before it is full."""
PATIENCE_S = 120.0


@contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a folder for a store, in memory where there is plenty: what a process that was killed has written outlives it there too.

    A store on a disk that stands still for seconds stands still with it, longer than whoever asks it waits. Not pytest's own folders:
    they can be too long for a socket's path.
    """
    in_memory = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= LEAST_FREE
    folder = Path(tempfile.mkdtemp(prefix="tidings-", dir=IN_MEMORY if in_memory else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def undaunted(url: str) -> Redis:
    """Return a client that waits for a store as long as a test can, and repeats nothing by itself: a repeated XADD adds twice."""
    return Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0))
