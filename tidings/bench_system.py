"""A system of its own for a benchmark: its own home and port, on the bench's store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from gateway.api_keys import new_key
from gateway.redis_api_keys import RedisApiKeys
from lake.keys import Keys
from tidings.bench_data import Bench
from tidings.home import State
from tidings.ports import free_port
from tidings.system import Wanted, ray_environment, ray_folder, start

FOR_EVER_S = 1e9

Step = Callable[[str], object]
"""Hears what is being done."""


@contextmanager
def system(bench: Bench, settings: dict[str, Any], step: Step, *, deliver: bool = False) -> Iterator[State]:
    """Run the whole system on the bench's store, under a home that is gone in the end; yields where to find it.

    `deliver`: whether the courier may deliver what is granted; else it stands by.
    """
    if not deliver:
        pause_deliveries(bench)
    with _environment({"TIDINGS_HOME": str(bench.home / "h")}), _environment(ray_environment()):
        history = {"history": str(bench.home / "history")}
        wanted = Wanted(str(bench.model), "", free_port(), bench.store.url, ray_folder=ray_folder(), settings=settings | history)
        running = start(wanted, step)
        try:
            yield running.state
        finally:
            step("stopping the system")
            running.stop()


def pause_deliveries(bench: Bench) -> None:
    """Take the couriers' leases for good: what is granted waits in the outbox, so that only deciding is measured."""
    keys = bench.stores.meta.keys
    for shard in range(keys.shards):
        bench.stores.leases.acquire(keys.of_shard(f"{Keys.LEASE}-courier", shard), "bench", bench.stores.clock.now(), FOR_EVER_S)


def address_of(state: State) -> tuple[str, int]:
    """Return host and port of a system's HTTP interface."""
    parts = urlsplit(state.api_url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def urgent_token(bench: Bench, now: float) -> str:
    """Return the token of a new key that may post urgent requests."""
    key, token = new_key(("urgent",), now, name="bench")
    RedisApiKeys(bench.stores.client).put(key)
    return token


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
