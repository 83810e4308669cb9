"""`tidings bench window`: everybody's window at once, from the store to the outbox, beside XGBoost alone on the same rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from budgets.ledger import used
from lake.items import ItemTable
from lake.profiles import MAX_WINDOWS
from ranking import bundle as bundles
from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.heat import burst_of
from ranking.scorer import Scorer, ScoreRequest
from scheduler.commit import MAX_USERS
from scheduler.decide import DecideConfig
from scheduler.gather import gather
from scheduler.report import LaneReport
from scheduler.sources import HeldRows, NewPosts, Source, Trending, UserChunk
from scheduler.windows import EPOCH_QUARTERS, SLOT_S, WEEK_QUARTERS, LocalTimes, local_quarters
from tidings.bench_cpu import cpu_use
from tidings.bench_data import NOW, Bench, BenchData, bench
from tidings.bench_system import Step, system

CHANNEL = "in_app"
PEER_NAME = "inplace_predict on the same assembled rows, all cores"
SETTINGS = {"ticking": False, "rankers": [2, 2], "shards_in_flight": 4}
"""What suits two cores: a ranker for each, and as many shards again whose candidates are being gathered or committed."""

Tick = Callable[[], LaneReport | None]


def run(
    data: BenchData | None = None,
    *,
    rounds: int = 5,
    settings: dict[str, Any] | None = None,
    keep: Path | None = None,
    step: Step = lambda _: None,
) -> dict[str, Any]:
    """Return the figures of `tidings bench window --json`.

    `candidates_per_s`: of the median of `rounds` windows, after one to warm up, from the tick to the last user moved on.
    `peer_candidates_per_s`: of the predictions before and after it, while the system waits for the next tick: a machine's pace changes
    within a minute, so each window is compared with what surrounds it. Ledgers are empty before each, since what was sent before would not
    be ranked again. `sent_when_spent`: what one more window sent, of the budgets that the last had spent. `keep`: see bench_data.bench.
    """
    data = data or BenchData()
    step("making users, items and a model")
    with bench(data, keep) as made:
        step("assembling the same rows for the peer")
        peer = Peer.of(made)
        weekly = DecideConfig().top_n  # so that each window spends everybody's budget
        chosen = SETTINGS | {"weekly": {CHANNEL: weekly}} | (settings or {})
        with system(made, chosen, step) as state:
            from tidings.ray_demo import scheduler_tick  # Ray reads its settings from the environment when it is imported

            with scheduler_tick(state) as tick:
                windows = Windows.open(made)
                runs, peer_runs, over = [], [], 0
                for _ in range(rounds + 1):
                    made.stores.ledger.delete(data.user_ids)
                    runs.append(_told(windows.decide_next(tick), step))
                    peer_runs.append(peer.speed())
                    over += overspent(made, weekly)
                spent = _told(windows.decide_next(tick), step)
        pairs = [_beside(run, pair) for run, pair in zip(runs[1:], pairwise(peer_runs), strict=True)]
        return {
            "users": data.users,
            **sorted(pairs, key=lambda pair: pair["ratio"])[len(pairs) // 2],
            "sent_when_spent": spent["sent"],
            "overspent": over + overspent(made, weekly),
            "peer_name": PEER_NAME,
            "ratios": [pair["ratio"] for pair in pairs],
            "all_runs": runs,
            "peer_runs": peer_runs,
            "settings": chosen,
            "data": made.facts(),
            "cores": os.cpu_count(),
        }


def _beside(run: dict[str, Any], peers: tuple[int, int]) -> dict[str, Any]:
    """Return a window's figures beside those of the predictions before and after it."""
    speed = round(sum(peers) / len(peers))
    return {**run, "peer_candidates_per_s": speed, "ratio": round(run["candidates_per_s"] / speed, 3)}


def _told(figures: dict[str, Any], step: Step) -> dict[str, Any]:
    step(f"  {figures['candidates']:,} candidates in {figures['seconds']:.2f} s, {figures['sent']:,} sent")
    return figures


@dataclass
class Windows:
    """Windows of all users in quarter-hours that follow one another, as far as a profile holds any, and then from the first again.

    The clock moves on with every round, a week further once a week's windows are through.
    """

    made: Bench
    first_slot: int
    rounds: int = 0
    dispositions: list[np.ndarray[Any, Any]] = field(default_factory=list)

    @staticmethod
    def open(made: Bench) -> Windows:
        """Give every user a window in each of the next slots, whatever their time zone, and put them into the first."""
        stores, first = made.stores, int(NOW) // SLOT_S
        users = made.data.user_ids
        profiles = stores.profiles.get(users)
        times = LocalTimes.of(profiles["zone"], profiles["utc_offset_minutes"])
        quarters = local_quarters(times, first)[:, None] + np.arange(MAX_WINDOWS) + EPOCH_QUARTERS
        stores.profiles.write(users, "windows", (quarters % WEEK_QUARTERS).astype(np.uint16))
        stores.due.enroll(users, np.full(len(users), first))
        return Windows(made, first)

    def decide_next(self, tick: Tick) -> dict[str, Any]:
        """Decide the next window of everybody; raises RuntimeError where somebody is left behind."""
        week, place = divmod(self.rounds, MAX_WINDOWS)
        slot = self.first_slot + week * WEEK_QUARTERS + place
        self.rounds += 1
        stores = self.made.stores
        stores.clock.hold(slot * SLOT_S + 1.0)
        with cpu_use(os.getpid()) as use:
            began = time.perf_counter()
            report = tick()
            elapsed_s = time.perf_counter() - began
        if report is None or report.users != self.made.data.users or stores.due.counts(slot).any():
            raise RuntimeError(f"the window at slot {slot} did not decide everybody: {report}")
        return {
            "candidates": report.candidates,
            "sent": report.sends,
            "seconds": round(elapsed_s, 3),
            "candidates_per_s": round(report.candidates / elapsed_s),
            "busy_cores": use.cores,
        }


def overspent(made: Bench, weekly: int) -> int:
    """Return how many users were granted more than their week's budget on some channel, counted in their ledgers."""
    stores, users = made.stores, made.data.user_ids
    spent = used(stores.ledger.read(users), len(users), len(stores.meta.channels), stores.clock.now())
    return int((spent > weekly).any(axis=1).sum())


@dataclass(frozen=True)
class Peer:
    """XGBoost alone on the `rows` of everybody's window, with all cores, as the model was trained."""

    rows: Matrix
    bundle: Bundle

    @staticmethod
    def of(made: Bench) -> Peer:
        """Assemble the rows, and load the model."""
        peer = Peer(assembled(made, made.data.user_ids), bundles.load(made.model, threads=0, verified=True))
        peer.speed()
        return peer

    def speed(self) -> int:
        """Return how many rows a second it predicts now."""
        began = time.perf_counter()
        self.bundle.booster.inplace_predict(self.rows, predict_type="margin")
        return round(len(self.rows) / (time.perf_counter() - began))


def assembled(made: Bench, users: list[str]) -> Matrix:
    """Return the feature rows of users' candidates as the ranker assembles them, float32 (n, features)."""
    stores, table = made.stores, ItemTable(made.stores.items)
    table.sync(NOW)
    sources: tuple[Source, ...] = (HeldRows(stores.held), NewPosts(stores.follows), Trending(burst_of(made.features)))
    scorer = Scorer(bundles.load(made.model, verified=True), made.features, ItemTable(stores.items))
    channels = stores.meta.channel_codes([CHANNEL])
    parts = []
    for start in range(0, len(users), MAX_USERS):
        rows = gather(UserChunk(users[start : start + MAX_USERS]), sources, table, channels, NOW)
        job = scorer.prepare(ScoreRequest(rows.users, rows.items, rows.user, rows.item, rows.channel, stores.meta.channels, NOW))
        parts += [job.features(chunk) for chunk in job.chunks()]
    return np.concatenate(parts)
