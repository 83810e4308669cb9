"""`tidings bench refresh`: the daily refresh of many users, in a process of its own, beside a plain count of who read of which topic."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from lake.collected import Living
from lake.dataset import Dataset
from lake.embedded import EmbeddedStore
from lake.history import History
from ranking.redis_features import RedisFeatureStore
from scheduler.loading import load
from scheduler.redis_stores import RedisStores
from scheduler.refreshing import Refresh
from scheduler.send_time import fit
from tidings.bench_data import META, NOW, BenchData
from tidings.bench_system import Step

PEER_NAME = "pandas counting, from the same tables, each user's events by topic"
Result = TypeVar("Result")


def sized(users: int) -> BenchData:
    """Return a site whose items and authors grow with its users: 20 users to an item, 50 to an author."""
    return BenchData(users=users, items=max(6_000, users // 20), authors=max(1_200, users // 50))


def run(users: int, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench refresh --json`.

    `peak_mb`: most memory the refreshing process held at once. `processor_s`: its own time, without the store's. `store_mb`: what the store
    holds afterwards. Read, computed and written is all: the tables from disk, everybody's features, windows and place in the due index.
    """
    with TemporaryDirectory(prefix="tidings-") as folder:
        home = Path(folder)
        with EmbeddedStore(home / "store") as store:
            step(f"making a site of {users:,} users and filling a store")
            _apart(_make, users, str(home), store.url)
            step("refreshing")
            done = _apart(_refresh, str(home), store.url)
            held: Any = RedisStores.open(store.url, META).client.info("memory")
        step("counting, for the peer")
        peer_s = _apart(_peer, str(home))
    return {
        **done,
        "users_per_s": round(users / done["seconds"]),
        "store_mb": round(held["used_memory"] / 1e6),
        "peer_name": PEER_NAME,
        "peer_seconds": round(peer_s, 1),
        "ratio": round(peer_s / done["seconds"], 4),
    }


def _apart(work: Callable[..., Result], *given: Any) -> Result:
    """Do something in a process of its own: what it leaves in memory is no part of the next."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def _make(users: int, home: str, url: str) -> None:
    dataset, stores = sized(users).dataset(), RedisStores.open(url, META)
    stores.clock.hold(NOW)
    dataset.save(Path(home) / "tables")
    load(dataset, stores.loading(), NOW, fit(dataset.events, dataset.users, now=NOW))


def _refresh(home: str, url: str) -> dict[str, Any]:
    stores = RedisStores.open(url, META)
    living = Living(History(f"{home}/history"), stores.user_keys, stores.profiles, stores.items)
    job = Refresh(living, stores.loading(), RedisFeatureStore(stores.client, META.keys), f"{home}/tables", stores.half_lives)
    began, worked = time.perf_counter(), time.process_time()
    done = job.run(NOW)
    took_s, worked_s = time.perf_counter() - began, time.process_time() - worked
    if done is None:
        raise RuntimeError("the bench lost its events")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "users": done.users,
        "authors": done.authors,
        "items": done.items,
        "seconds": round(took_s, 1),
        "processor_s": round(worked_s, 1),
        "peak_mb": round(peak_mb),
    }


def _peer(home: str) -> float:
    dataset = Dataset.load(f"{home}/tables")
    began = time.perf_counter()
    topics = dataset.items[["item_id", "topics"]].explode("topics")
    dataset.events[["user_id", "item_id"]].merge(topics, on="item_id").groupby(["user_id", "topics"]).size()
    return time.perf_counter() - began
