"""The whole system for a test: started as `tidings up` does, with its clock held where the test wants it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from gateway.api_keys import new_key
from gateway.redis_api_keys import RedisApiKeys
from lake.embedded import EmbeddedStore
from lake.history import History
from lake.meta import Meta
from scheduler.redis_stores import RedisStores
from scheduler.windows import SLOT_S
from tidings.home import State
from tidings.system import System, Wanted, ray_environment, ray_folder, start

PORT = 8231
SHARDS = 4
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": "18404", "RAY_SERVE_HAPROXY_METRICS_PORT": "19101"}
"""Others on this machine may run a system with the usual ones."""

SETTINGS: dict[str, Any] = {
    "shards": SHARDS,
    "ticking": False,
    "scheduled_channels": ["in_app"],
    "weekly": {"in_app": 3, "push": 3, "email": 3},
    "rankers": [1, 1],
}
SCOPES = ("urgent", "urgent:critical", "events", "users", "read")


@dataclass(frozen=True)
class Running:
    """A running system. `home`: its TIDINGS_HOME. `token`: a key with every scope."""

    home: Path
    system: System
    stores: RedisStores
    token: str

    @property
    def state(self) -> State:
        """Where to find its parts."""
        return self.system.state

    def client(self, **headers: str) -> httpx.Client:
        """Return an HTTP client with the key."""
        headers = {"Authorization": f"Bearer {self.token}"} | headers
        return httpx.Client(base_url=self.state.api_url, headers=headers, timeout=60.0)

    def tick(self) -> dict[str, Any] | None:
        """Ask the scheduler to decide everybody who is due; returns its report, None where it did not tick."""
        command = [sys.executable, "-m", "tests.integration.ticking"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=os.environ | ray_environment())
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
        return report

    def decisions(self) -> pd.DataFrame:
        """Return every row of the decision log: what the courier has filed, and what it has not yet."""
        log = self.stores.decision_log(History(str(self.home / "history")))
        for shard in range(self.stores.meta.shards):
            while log.drain(shard):
                pass
        frame = log.history.read("decisions", 0.0, 4e9)
        return frame.drop_duplicates(["decision_id", "user_key", "item_id", "channel"])


@contextmanager
def at_home(home: Path) -> Iterator[None]:
    """Have commands and their children find the system of `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REDIS_URL", raising=False)
        patch.setenv("TIDINGS_HOME", str(home))
        for name, port in HAPROXY_PORTS.items():
            patch.setenv(name, port)
        yield


def prepare_store(folder: Path, now: float, shards: int = SHARDS) -> None:
    """Make a store whose clock stands at `now`."""
    with EmbeddedStore(folder) as store:
        RedisStores.open(store.url, Meta(shards=shards)).clock.hold(now)


@contextmanager
def system(home: Path, model: Path, *, data: Path | None = None, redis_url: str = "", **settings: Any) -> Iterator[Running]:
    """Run the system of `home` on the store in `home`/store, or on the one at `redis_url`; stops it if the test has not."""
    with at_home(home):
        wanted = Wanted(
            model=str(model),
            store=str(home / "store"),
            port=PORT,
            redis_url=redis_url,
            data=str(data) if data else "",
            ray_folder=ray_folder(),
            settings=SETTINGS | {"history": str(home / "history")} | settings,
        )
        started = start(wanted, lambda _: None)
        try:
            yield running_at(home, started)
        finally:
            if started.process.poll() is None:
                started.stop()
            assert started.process.stdout is not None
            started.process.stdout.close()


def running_at(home: Path, started: System) -> Running:
    """Return a started system, with a key to its API."""
    stores = RedisStores.open(started.state.store_url)
    key, token = new_key(SCOPES, stores.clock.now(), name="test")
    RedisApiKeys(stores.client).put(key)
    return Running(home, started, stores, token)


def tidings(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would, and return how it ended."""
    command = [str(Path(sys.executable).parent / "tidings"), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def answer_of(*words: str) -> dict[str, Any]:
    """Run a command that must succeed and return the JSON object it prints."""
    done = tidings(*words, "--json")
    assert done.returncode == 0, f"tidings {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def slot_after(now: float) -> int:
    """Return the first slot whose tick comes after `now`."""
    return int(now // SLOT_S) + 1


def everybody(stores: RedisStores, users: Sequence[str]) -> int:
    """Return the latest slot in which any of the users is due."""
    return int(stores.due.slots(users).max())
