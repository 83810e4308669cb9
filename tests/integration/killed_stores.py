"""A store that is killed while others write to it, and started again on the same folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from lake.embedded import EmbeddedStore
from tidings.bench_ledger import META


def patient(url: str) -> Redis:
    """Return a client that outlasts a restart of the store."""
    return Redis.from_url(url, retry=Retry(ConstantBackoff(0.02), 2000))


def kill_and_restart(folder: Path, store: EmbeddedStore, kills: int, log: list[int], apart: int = 40) -> EmbeddedStore:
    """Kill the store as soon as it has written some more, and start it again on the same folder."""
    watcher = Redis.from_url(store.url)
    for _ in range(kills):
        goal = written(watcher) + apart
        while written(watcher) < goal:
            pass
        log.append(written(watcher))
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        store.stop()
        store = EmbeddedStore(folder).start()
        watcher = Redis.from_url(store.url)
    return store


def written(client: Redis) -> int:
    """Return the number of entries of the shards' decision logs: the batches committed so far."""
    pipe: Any = client.pipeline(transaction=False)
    for shard in range(META.shards):
        pipe.xlen(META.keys.of_shard("log", shard))
    return int(sum(pipe.execute()))
