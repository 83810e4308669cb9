"""The whole system for a test: started as `tidings up` does, with its clock held where the test wants it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
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
from tidings.home import State, running
from tidings.system import ray_environment

PORT = 8231
SHARDS = 4
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
    state: State
    stores: RedisStores
    token: str

    def client(self, **headers: str) -> httpx.Client:
        """Return an HTTP client with the key."""
        headers = {"Authorization": f"Bearer {self.token}"} | headers
        return httpx.Client(base_url=self.state.api_url, headers=headers, timeout=120.0)

    def tick(self) -> dict[str, Any] | None:
        """Ask the scheduler to decide everybody who is due; returns its report, None where it did not tick."""
        command = [sys.executable, "-m", "tests.integration.ticking"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400, env=os.environ | ray_environment())
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
        return report

    def decisions(self) -> pd.DataFrame:
        """Return every row of the decision log, filing what the courier has not filed yet."""
        log = self.stores.decision_log(History(str(self.home / "history")))
        for shard in range(self.stores.meta.shards):
            while log.drain(shard):
                pass
        frame = log.history.read("decisions", 0.0, 4e9)
        return frame.drop_duplicates(["decision_id", "user_key", "item_id", "channel"])


@contextmanager
def at_home(home: Path, **environment: str) -> Iterator[None]:
    """Have commands and their children find the system of `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REDIS_URL", raising=False)
        for name, value in {"TIDINGS_HOME": str(home), **environment}.items():
            patch.setenv(name, value)
        yield


def prepare_store(folder: Path, now: float, shards: int = SHARDS) -> None:
    """Make a store whose clock stands at `now`."""
    with EmbeddedStore(folder) as store:
        RedisStores.open(store.url, Meta(shards=shards)).clock.hold(now)


@contextmanager
def system(home: Path, *words: str, redis_url: str = "", **settings: Any) -> Iterator[Running]:
    """Run `tidings up --detach` in `home` with further words and settings, on its own store or on the one at `redis_url`.

    Stops it where the test has not.
    """
    with at_home(home, **({"REDIS_URL": redis_url} if redis_url else {})):
        up(home, *words, **settings)
        try:
            yield running_at(home)
        finally:
            if running() is not None:
                answer_of("down")


def up(home: Path, *words: str, **settings: Any) -> None:
    """Run `tidings up --detach`."""
    file = home / "settings.json"
    file.write_text(json.dumps(SETTINGS | settings))
    answer_of("up", "--detach", "--port", str(PORT), "--settings", str(file), *words)


def running_at(home: Path) -> Running:
    """Return the running system, with a key to its API."""
    state = running()
    assert state is not None
    stores = RedisStores.open(state.store_url)
    key, token = new_key(SCOPES, stores.clock.now(), name="test")
    RedisApiKeys(stores.client).put(key)
    return Running(home, state, stores, token)


def tidings(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would, and return how it ended."""
    command = [str(Path(sys.executable).parent / "tidings"), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)


def answer_of(*words: str) -> dict[str, Any]:
    """Run a command that must succeed and return the JSON object it prints."""
    done = tidings(*words, "--json")
    assert done.returncode == 0, f"tidings {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout)
    return report
