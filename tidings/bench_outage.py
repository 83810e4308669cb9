"""`tidings bench courier --outage`: the pace of urgent decisions and messages while e-mail's provider works, refuses or is silent."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from delivery.channels.email import EmailSettings
from delivery.channels.in_app import InAppSettings
from delivery.redis_outbox import RedisOutbox
from lake.decisions import Candidates, Lane
from lake.embedded import EmbeddedStore
from lake.items import ItemTable
from lake.meta import Meta
from lake.switches import Watch
from ranking.popular_scorer import Popularity
from ranking.redis_features import RedisFeatureStore
from ranking.scorer import Scores
from scheduler.lanes import UrgentLane, UrgentRequest
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.redis_stores import RedisStores
from tidings.bench_courier import SHARDS, Load, courier, fill, people
from tidings.bench_receivers import SilentReceiver, SmtpReceiver, receiving

STATES = ("none", "up", "refuses", "silent")
"""Of e-mail: nothing waits for it; its provider answers, refuses every connection, or takes connections and says nothing."""
START_TIMEOUT_S = 120.0
WEEKLY = 100
WARM = "warm"
"""The decision that loads the code."""
Step = Callable[[str], None]


@dataclass(frozen=True)
class Outage:
    """`emails` wait when a courier begins; from then on, for `span_s`, `per_s` urgent requests are made for `audience` people each.

    `rounds`: how often each state comes, in turn, so that what else the machine does meets all of them.
    """

    emails: int = 5_000
    users: int = 2_000
    audience: int = 10
    per_s: float = 10.0
    span_s: float = 12.0
    rounds: int = 3


@dataclass
class Seen:
    """Of one state: how long each decision took and how late each of its messages was accepted after it was granted, in ms."""

    decided_ms: list[float] = field(default_factory=list)
    delivered_ms: list[float] = field(default_factory=list)
    granted: int = 0
    emails: int = 0

    def figures(self) -> dict[str, float | int]:
        """Return the counts and percentiles."""
        found: dict[str, float | int] = {"decisions": len(self.decided_ms), "granted": self.granted, "accepted": len(self.delivered_ms)}
        for what, values in (("decided", self.decided_ms), ("delivered", self.delivered_ms)):
            found |= {f"{what}_p{part}_ms": round(float(np.percentile(values, part)), 1) for part in (50, 90, 99, 100)}
        return found | {"emails_accepted": self.emails}


def run(outage: Outage | None = None, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench courier --outage --json`: by state, and beside those where nothing waits for e-mail at all."""
    outage = outage or Outage()
    seen = {state: Seen() for state in STATES}
    for number in range(outage.rounds):
        for state in STATES:
            step(f"round {number + 1} of {outage.rounds}, e-mail: {state}")
            span(outage, state, seen[state])
    figures = {state: each.figures() for state, each in seen.items()}
    usual = figures["none"]
    ratios = {
        f"{state}_{name.removesuffix('_ms')}_ratio": round(figures[state][name] / usual[name], 2)
        for state in STATES[1:]
        for name in ("decided_p50_ms", "delivered_p50_ms", "delivered_p99_ms")
    }
    decided = {f"{state}_decisions_ratio": round(figures[state]["decisions"] / usual["decisions"], 3) for state in STATES[1:]}
    return {"states": figures, **decided, **ratios, "outage": vars(outage), "cores": os.cpu_count()}


def span(outage: Outage, state: str, seen: Seen) -> None:
    """Live one span in a state on a store of its own, and add to what was seen of it."""
    with provider(state) as email, tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        stores = RedisStores.open(store.url, Meta(shards=SHARDS))
        users = people(stores, outage.users, "email", "reader@example.com")
        if state != "none":
            fill(stores, Load("email", outage.emails, outage.users), users)
        with delivering(store.url, email):
            _ask(urgent_lane(stores), stores, outage, users, seen)
            _settle(stores, seen)
        seen.emails += sum(record.channel == "email" and record.state == "accepted" for _, record in _outcomes(stores))
        stores.client.close()


def _ask(lane: UrgentLane, stores: RedisStores, outage: Outage, users: Sequence[str], seen: Seen) -> None:
    """Make urgent requests at their times; one that is late is made at once."""

    def decide(name: str, audience: list[str]) -> int:
        asked = UrgentRequest({"item_id": name, "title": name, "kind": "post"}, name, audience, ("in_app",), False, "bench", name)
        (result,) = lane.decide([asked], stores.clock.now())
        return result.disposition.count("send")

    decide(WARM, list(users[:1]))
    random, began = np.random.default_rng(0), time.perf_counter()
    for number in range(int(outage.per_s * outage.span_s)):
        time.sleep(max(began + number / outage.per_s - time.perf_counter(), 0.0))
        start = time.perf_counter()
        if start - began > outage.span_s:
            return
        seen.granted += decide(f"urgent-{number}", [users[place] for place in random.choice(len(users), outage.audience, replace=False)])
        seen.decided_ms.append((time.perf_counter() - start) * 1e3)


def _settle(stores: RedisStores, seen: Seen, within_s: float = 60.0) -> None:
    """Wait until all that was granted has ended, and keep how long each took: the store's clock stamps both ends."""
    wanted, until = seen.granted, time.perf_counter() + within_s
    already = len(seen.delivered_ms)
    ended: list[float] = []
    while already + len(ended) < wanted and time.perf_counter() < until:
        time.sleep(0.2)
        ended = [
            int(name.partition("-")[0]) - record.granted_at * 1e3
            for name, record in _outcomes(stores)
            if record.lane == "urgent" and record.state == "accepted" and record.decision_id != WARM
        ]
    seen.delivered_ms += ended


def _outcomes(stores: RedisStores) -> list[tuple[str, Any]]:
    outbox = RedisOutbox(stores.client, stores.meta.keys)
    return [each for shard in range(SHARDS) for each in outbox.outcomes(shard, "", 1_000_000)]


def urgent_lane(stores: RedisStores) -> UrgentLane:
    """Return the urgent lane on a store, its rows scored by popularity in this process."""
    table = ItemTable(stores.items)
    popularity = Popularity(RedisFeatureStore(stores.client, stores.meta.keys), table)

    def score(rows: Candidates, _channels: tuple[str, ...], now: float, _lane: Lane, /) -> Scores:
        return popularity.score(rows.users, rows.items, rows.user, rows.item, now)

    parts = (stores.meta, stores.profiles, table, stores.seen, stores.ledger, score, stores.committer, stores.thresholds)
    config = PipelineConfig(weekly={"in_app": WEEKLY})
    return UrgentLane(Pipeline(*parts, off=Watch(stores.switches), config=config), stores.follows, stores.held)


@contextmanager
def provider(state: str) -> Iterator[EmailSettings]:
    """Yield the settings of e-mail whose provider is in one of STATES."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        if state in ("up", "silent"):
            with receiving(SmtpReceiver if state == "up" else SilentReceiver) as (port, _):
                yield _email(port)
        else:
            yield _email(taken.getsockname()[1])


def _email(port: int) -> EmailSettings:
    return EmailSettings(host="127.0.0.1", port=port, sender="tidings@example.com", tls="never")


@contextmanager
def delivering(url: str, email: EmailSettings) -> Iterator[None]:
    """Have a courier of e-mail and inboxes at work in a process of its own; it is killed at the end, whatever it waits for."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_deliver, args=(url, email, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise RuntimeError("the courier of the bench did not start; its error is printed above")
        yield
        if not process.is_alive():
            raise RuntimeError("the courier of the bench died; its error is printed above")
    finally:
        process.kill()
        process.join()


def _deliver(url: str, email: EmailSettings, told: Connection) -> None:
    stores = RedisStores.open(url, Meta(shards=SHARDS))
    runs, _, _ = courier(stores, email, beside=(InAppSettings(),))
    told.send(None)
    asyncio.run(runs.run())
