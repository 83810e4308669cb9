"""A store that is killed while others write to it, and started again on the same folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

from lake.embedded import EmbeddedStore
from scheduler.commit import CommitBatch, CommitResult, NotDurableError
from scheduler.redis_commit import RedisCommitter
from tests.stores import undaunted
from tidings.bench_ledger import META

AGAIN = Retrying(retry=retry_if_exception_type(NotDurableError), stop=stop_after_delay(300), reraise=True)
"""A store for which so many wait that it does not run a commit and write it to its disk in time is asked again, as whoever commits does."""


def patient(url: str) -> Redis:
    """Return a client that outlasts a restart of the store."""
    return Redis.from_url(url, retry=Retry(ConstantBackoff(0.02), 2000))


def committed(committer: RedisCommitter, batch: CommitBatch) -> CommitResult:
    """Commit a batch, again as long as the store does not say that its disk has it; a repeat finds what the first one did."""
    (result,) = AGAIN(committer.commit, [batch])
    return result


def kill_and_restart(folder: Path, store: EmbeddedStore, kills: int, log: list[int], apart: int = 40) -> EmbeddedStore:
    """Kill the store as soon as it has written some more, and start it again on the same folder."""
    watcher = undaunted(store.url)
    for _ in range(kills):
        goal = written(watcher) + apart
        while written(watcher) < goal:
            pass
        log.append(written(watcher))
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        store.stop()
        store = EmbeddedStore(folder).start()
        watcher = undaunted(store.url)
    return store


def written(client: Redis) -> int:
    """Return the number of entries of the shards' decision logs: the batches committed so far."""
    pipe: Any = client.pipeline(transaction=False)
    for shard in range(META.shards):
        pipe.xlen(META.keys.of_shard("log", shard))
    return int(sum(pipe.execute()))
