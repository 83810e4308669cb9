"""`tidings bench urgent`: urgent requests over HTTP, from JSON to JSON, with every grant on disk, beside a bare scoring service."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import orjson

from tidings import bench_peer
from tidings.bench_cpu import cpu_use
from tidings.bench_data import NOW, Bench, BenchData, bench
from tidings.bench_ledger import crowd
from tidings.bench_system import Step, address_of, system, urgent_token
from tidings.bench_window import Windows, assembled
from tidings.home import State
from tidings.load import Answers, drive, http_request

P90_MS, P99_MS = 50.0, 100.0
"""What a number of connections must stay under to count."""
PATH = "/v1/urgent"
WEEKLY = 100
"""Generous, so that most rows are sent and the whole path is paid for."""


@dataclass(frozen=True)
class UrgentLoad:
    """`connections`: how many at once, one run each. `new_items`: share of requests that bring an item nobody has heard of."""

    connections: tuple[int, ...] = (8, 16, 32, 48, 64)
    users_per_request: int = 55
    measure_s: float = 8.0
    warm_s: float = 4.0
    requests: int = 12_000
    new_items: float = 0.0
    generators: int = 1


def run(
    load: UrgentLoad | None = None,
    data: BenchData | None = None,
    *,
    settings: dict[str, Any] | None = None,
    with_window: bool = False,
    keep: Path | None = None,
    step: Step = lambda _: None,
) -> dict[str, Any]:
    """Return the figures of `tidings bench urgent --json`.

    `with_window`: meanwhile the scheduled lane decides windows of everybody without pause. `keep`: see bench_data.bench.
    """
    load, data = load or UrgentLoad(), data or BenchData()
    step("making users, items and a model")
    with bench(data, keep) as made:
        rows = made.home / "rows.npy"
        np.save(rows, assembled(made, data.user_ids[:100])[: load.users_per_request])
        workers = os.cpu_count() or 1
        with bench_peer.peer(made.model, rows, workers) as address:
            peer_runs = [_measured(address, n, requests(data, load, ""), load, step, "peer") for n in load.connections]
        with system(made, {"weekly": {"in_app": WEEKLY}} | (settings or {}), step) as state:
            token = urgent_token(made, NOW)
            with _windows(made, state) if with_window else nullcontext():
                runs = [_run(made, state, requests(data, load, token, seed), n, load, step) for seed, n in enumerate(load.connections)]
        return report(runs, peer_runs) | {"with_window": with_window, "data": made.facts(), "cores": os.cpu_count()}


def report(runs: list[dict[str, Any]], peer_runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the best runs."""
    ours, theirs = best(runs), best(peer_runs)
    return {
        **ours,
        "peer_name": bench_peer.NAME,
        "peer_requests_per_s": theirs["requests_per_s"],
        "peer_connections": theirs["connections"],
        "peer_p99_ms": theirs["p99_ms"],
        "ratio": round(ours["requests_per_s"] / theirs["requests_per_s"], 3),
        "within_limits": is_within_limits(ours),
        "all_runs": runs,
        "peer_runs": peer_runs,
    }


def best(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest run within the limits and without errors, else the one with the lowest p99."""
    good = [run for run in runs if is_within_limits(run)]
    return max(good, key=lambda run: run["requests_per_s"]) if good else min(runs, key=lambda run: run["p99_ms"])


def is_within_limits(run: dict[str, Any]) -> bool:
    """Return whether a run's latencies count."""
    return bool(run["p90_ms"] < P90_MS and run["p99_ms"] < P99_MS and not run["errors"])


def requests(data: BenchData, load: UrgentLoad, token: str, seed: int = 0) -> list[bytes]:
    """Return requests about different users and items; each names distinct users."""
    random, users = np.random.default_rng(seed), np.array(data.user_ids, object)
    strides = np.array([stride for stride in range(1, data.users) if np.gcd(stride, data.users) == 1])
    first, stride = random.integers(0, data.users, load.requests), random.choice(strides, load.requests)
    codes = (first[:, None] + stride[:, None] * np.arange(load.users_per_request)) % data.users
    rooms, is_new = random.integers(0, data.urgent, load.requests), random.random(load.requests) < load.new_items
    headers = {"Authorization": f"Bearer {token}"}
    return [
        http_request(PATH, orjson.dumps(_body(users[codes[number]].tolist(), rooms[number], new, f"{seed}-{number}")), headers)
        for number, new in enumerate(is_new.tolist())
    ]


def _body(users: list[str], room: int, is_new: bool, name: str) -> dict[str, Any]:
    if not is_new:
        return {"item_id": f"room-{room:05}", "users": users, "channels": ["in_app"]}
    item = {"item_id": f"fresh-{name}", "author_id": f"author-{room % 1000:04}", "topics": ["live"], "half_life_s": 600}
    return {"item": item, "users": users, "channels": ["in_app"]}


def _run(made: Bench, state: State, sent: list[bytes], connections: int, load: UrgentLoad, step: Step) -> dict[str, Any]:
    """Measure one number of connections; everybody's week begins anew before it."""
    made.stores.ledger.delete(made.data.user_ids)
    return _measured(address_of(state), connections, sent, load, step, "system")


def _measured(address: tuple[str, int], connections: int, sent: list[bytes], load: UrgentLoad, step: Step, whom: str) -> dict[str, Any]:
    step(f"{connections} connections to the {whom}")
    each = connections // load.generators
    with cpu_use(os.getpid()) as use:
        parts = crowd(drive, [(address, sent[n :: load.generators], each, load.warm_s, load.measure_s) for n in range(load.generators)])
    answers = Answers.of_all(parts)
    rate = answers.requests_per_s
    found = {
        "requests_per_s": round(rate, 1),
        "candidates_per_s": round(rate * load.users_per_request),
        **answers.percentiles(),
        "errors": answers.errors,
        "connections": connections,
        "statuses": {str(status): count for status, count in answers.statuses.items()},
        "mix": mix(answers.kept),
        "generator_us_per_request": round(answers.cpu_s / max(sum(answers.statuses.values()), 1) * 1e6, 1),
        "busy_cores": use.cores,
    }
    step(f"  {rate:,.0f} requests/s, p90 {found['p90_ms']} ms, p99 {found['p99_ms']} ms")
    return found


def mix(bodies: Sequence[bytes]) -> dict[str, float]:
    """Return the share of each disposition in some answers."""
    rows = Counter(row.get("disposition", "scored") for body in bodies for row in orjson.loads(body)["results"])
    return {name: round(count / rows.total(), 4) for name, count in rows.most_common()}


@contextmanager
def _windows(made: Bench, state: State) -> Iterator[None]:
    """Decide windows of all users one after another, as long as the body runs."""
    from tidings.ray_demo import scheduler_tick

    over = Event()
    with scheduler_tick(state) as tick:
        windows = Windows.open(made)

        def keep_deciding() -> None:
            while not over.is_set():
                windows.decide_next(tick)

        deciding = Thread(target=keep_deciding)
        deciding.start()
        try:
            yield
        finally:
            over.set()
            deciding.join()
