"""`tidings bench audience`: one urgent item for all followers of a topic, in a process of its own, and the memory that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gateway.fanout import Fanout
from gateway.redis_fanout import RedisFanout
from lake.embedded import EmbeddedStore
from lake.follows import Followed
from lake.items import ItemTable
from lake.keys import Keys
from lake.meta import Meta
from lake.profiles import blank
from scheduler.lanes import UrgentLane, UrgentRequest, UrgentResult
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.redis_stores import RedisStores
from simulation.policies import Random
from tidings.bench_drain import SHARES, forget_peak, peak_mb
from tidings.bench_system import Step

META = Meta(shards=16)
TOPIC, CHANNEL = "news", "in_app"
FILLED = 2_000
"""Users put at a time."""
WARM = 5_000
"""Users who are told before memory is looked at: what is loaded for the first of them is not of the audience."""
PEER_NAME = "all followers of the topic as one list of ids in memory, and nothing decided"


@dataclass
class Watched(UrgentLane):
    """The lane that serves, and the most memory its process held until each share of `users` was told. `told`: how many were."""

    users: int = 0
    told: int = 0
    began_mb: float = 0.0
    peaks_mb: dict[float, float] = field(default_factory=dict)

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        """See UrgentLane."""
        if not self.began_mb and self.told >= min(WARM, self.users // 10):
            forget_peak()
            self.began_mb = peak_mb()
        results = super().decide(requests, now)
        self.told += sum(result.disposition.count("send") for result in results)
        for share in SHARES:
            if share not in self.peaks_mb and self.told >= share * self.users:
                self.peaks_mb[share] = peak_mb()
        return results


def run(users: int, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench audience --json`.

    Each user is decided and has a message on disk. `peak_mb_at_…`: the most memory of the process that tells them, by the share that was
    told; it held `began_mb` when it had told a few. `peer_mb`: what the ids alone take where they are gathered first.
    """
    with TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        step(f"making {users:,} followers of a topic")
        _fill(RedisStores.open(store.url, META), users)
        step("gathering their ids, for the peer")
        peer_mb = _apart(_gathered, store.url)
        step("telling them")
        return {"users": users, **_apart(_tell, store.url, users), "peer_name": PEER_NAME, "peer_mb": peer_mb}


def _apart(work: Any, *given: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def _fill(stores: RedisStores, users: int) -> None:
    rows = blank(FILLED)
    rows["zone"] = b"UTC"
    for first in range(0, users, FILLED):
        page = [f"user-{number:07}" for number in range(first, min(first + FILLED, users))]
        stores.profiles.put(page, rows[: len(page)])
        stores.follows.put(page, [Followed((TOPIC,))] * len(page))


def _lane(stores: RedisStores, users: int) -> Watched:
    table, config = ItemTable(stores.items), PipelineConfig(weekly={CHANNEL: 50})
    pipeline = Pipeline(stores.meta, stores.profiles, table, stores.seen, stores.ledger, Random(0), stores.committer, config=config)
    return Watched(pipeline, stores.follows, stores.held, users=users)


def _pages(stores: RedisStores) -> Iterator[list[str]]:
    return _lane(stores, 0).follower_pages(TOPIC)


def _gathered(url: str) -> float:
    stores = RedisStores.open(url)
    next(_pages(stores))
    forget_peak()
    before, everybody = peak_mb(), [user for page in _pages(stores) for user in page]
    return round(peak_mb() - before, 1) if everybody else 0.0


def _tell(url: str, users: int) -> dict[str, Any]:
    stores = RedisStores.open(url)
    lane = _lane(stores, users)
    fanout = Fanout(RedisFanout(stores.client), lane, stores.clock, "bench", ())
    fanout.accept(UrgentRequest({"item_id": "item"}, "item", [], (CHANNEL,), False, "bench", "bench"), TOPIC)
    began, worked = time.perf_counter(), time.process_time()
    fanout.work()
    took_s, worked_s = time.perf_counter() - began, time.process_time() - worked
    messages = sum(int(stores.client.xlen(META.keys.of_shard(Keys.OUTBOX, shard))) for shard in range(META.shards))
    if not lane.told == messages == users:
        raise RuntimeError(f"of {users:,} followers {lane.told:,} were told, and {messages:,} messages are in the outbox")
    return {
        "messages": messages,
        "users_per_s": round(users / took_s),
        "cpu_us_per_user": round(worked_s / users * 1e6, 1),
        "began_mb": lane.began_mb,
        **{f"peak_mb_at_{round(100 * share)}_percent": mb for share, mb in lane.peaks_mb.items()},
    }
