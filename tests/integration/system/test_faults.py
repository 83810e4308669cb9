"""Faults while the whole system works: parts are killed or frozen, and nothing is lost, doubled, mixed up or promised in vain."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from lake.embedded import EmbeddedStore
from lake.items import ItemTable
from lake.profiles import blank
from ranking import bundle as bundles
from ranking.popularity import MODEL_ID as POPULARITY
from ranking.redis_features import RedisFeatureStore
from ranking.scorer import Scorer
from scheduler.ticker import TTL_S
from scheduler.windows import SLOT_S, windows_due_of
from tests.integration.conftest import SmallWorld
from tests.integration.processes import descendants, living, title
from tests.integration.systems import Running, at_home, prepare_store, system, tidings
from tests.integration.waiting import until
from tests.unit.gateway.problems import problem_of
from tidings.ports import free_port
from tidings.ray_status import details

pytestmark = pytest.mark.timeout(600)

CROWD = [f"c{n:05}" for n in range(6_000)]
SHARDS = 2
"""So that each has two chunks of people to decide, and still has one when it is disturbed."""
TOP_N = 3
WINDOWS = 3
"""Most of them for one disturbance."""
PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def store(home: Path, small_world: SmallWorld) -> Iterator[EmbeddedStore]:
    prepare_store(home / "store", small_world.end_at, SHARDS)
    with EmbeddedStore(home / "store") as started:
        yield started
        if started.pid is not None:
            resume(started.pid)


@pytest.fixture(scope="module")
def running(home: Path, small_world: SmallWorld, store: EmbeddedStore) -> Iterator[Running]:
    """A system that ticks by itself every few seconds, on a store of the test's own, with two rankers."""
    words = ("--model", str(small_world.model), "--data", str(small_world.data))
    settings: dict[str, Any] = {"shards": SHARDS, "ticking": True, "rankers": [2, 2], "ranker_cpus": 0.5, "weekly": {"in_app": 50}}
    with system(home, *words, redis_url=store.url, **settings) as started:
        yield started


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(home))


def pids_of(running: Running, deployment: str) -> set[int]:
    """Return the processes of a deployment's replicas."""
    replicas = details(running.state).applications["tidings"].deployments[deployment].replicas
    return {replica.pid for replica in replicas if replica.pid is not None}


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


@contextmanager
def a_window(running: Running) -> Iterator[int]:
    """Open a window for the whole crowd: yields its slot once it has begun, with some of the crowd still to be decided.

    One that was over before anybody looked, since this process stood still meanwhile, is followed by another.
    """
    for _ in range(WINDOWS):
        slot = begun(running)
        if left(running, slot) > 0:
            yield slot
            return
    pytest.fail(f"{WINDOWS} windows were over before they could be disturbed")


def begun(running: Running) -> int:
    """Open a window for the whole crowd; returns its slot once somebody is decided."""
    stores = running.stores
    slot = int(stores.clock.now() // SLOT_S) + 4
    rows = blank(len(CROWD))
    rows["zone"] = b"UTC"
    rows["windows"][:, 0] = quarter_of(slot)
    assert (windows_due_of(rows[:1], slot) >= 0).all()
    stores.profiles.put(CROWD, rows)
    stores.due.enroll(CROWD, np.full(len(CROWD), slot))
    stores.clock.hold(slot * SLOT_S)
    until(lambda: left(running, slot) < len(CROWD), PATIENCE_S, "the window has begun")
    return slot


def quarter_of(slot: int) -> int:
    """Return a slot's quarter-hour of the week in UTC; 1970 began on a Thursday."""
    return (slot + 3 * 96) % 672


def left(running: Running, slot: int) -> int:
    """Return how many of the crowd are still due."""
    return int((running.stores.due.slots(CROWD) == slot).sum())


def finish(running: Running, slot: int) -> None:
    """Let time pass, so that the leases of the dead run out, until everybody is decided."""
    clock = running.stores.clock
    dead_at = clock.now() + TTL_S + 1
    assert dead_at < (slot + 1) * SLOT_S
    clock.hold(dead_at)
    until(lambda: left(running, slot) == 0, PATIENCE_S, "everybody of the crowd is decided")


def each_decided_once(running: Running, slot: int) -> None:
    """Check the log, the ledger and the inboxes of a window against one another."""
    begin = pd.Timestamp(slot * SLOT_S, unit="s", tz="UTC")
    rows = running.decisions()
    rows = rows[(rows["lane"] == "scheduled") & (rows["at"] >= begin)]
    keys = dict(zip(running.stores.user_keys.known(CROWD), CROWD, strict=True))
    rows = rows.assign(user_id=rows["user_key"].map(keys)).dropna(subset="user_id")
    assert set(rows["user_id"]) == set(CROWD)
    assert (rows.groupby("user_id")["decision_id"].nunique() == 1).all()
    sent = rows[rows["disposition"] == "send"]
    assert (sent.groupby("user_id").size() == TOP_N).all()
    ledger = running.stores.ledger.read(CROWD)
    granted = pd.Series(ledger.grant_id[ledger.at >= slot * SLOT_S]).map("{:016x}".format)
    assert sorted(granted) == sorted(sent["grant_id"])
    assert granted.is_unique


def test_a_scheduler_killed_in_the_middle_of_a_window_leaves_each_user_decided_once(running: Running) -> None:
    (pid,) = pids_of(running, "Scheduler")
    with a_window(running) as slot:
        os.kill(pid, signal.SIGKILL)
        finish(running, slot)
    each_decided_once(running, slot)
    assert pid not in living()


def test_a_worker_killed_in_the_middle_of_its_shard_leaves_each_user_decided_once(running: Running) -> None:
    with a_window(running) as slot:
        for pid in until(lambda: deciding(running), PATIENCE_S, "a shard is decided"):
            os.kill(pid, signal.SIGKILL)
        finish(running, slot)
    each_decided_once(running, slot)


def deciding(running: Running) -> set[int]:
    """Return the workers that decide a shard; between two shards there is none."""
    return {pid for pid in descendants(running.state.pid) if title(pid).startswith("ray::decide_shard")}


def test_a_store_that_stops_for_a_while_refuses_urgent_requests_and_the_window_resumes(running: Running, store: EmbeddedStore) -> None:
    assert store.pid is not None
    with a_window(running) as slot, running.client() as api:
        freeze(store.pid)
        try:
            answer = api.post("/v1/urgent", json=body("during", ["c00000"]))
            problem_of(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
            problem_of(api.get("/healthz"), 503)
        finally:
            resume(store.pid)
        finish(running, slot)
        until(lambda: api.get("/healthz").status_code == 200, PATIENCE_S)
    each_decided_once(running, slot)


def body(item_id: str, users: list[str], **more: Any) -> dict[str, Any]:
    return {"item": {"item_id": item_id, "topics": ["chess"], "half_life_s": 600} | more, "users": users, "channels": ["in_app"]}


def test_a_ranker_killed_under_load_mixes_no_scores_up_and_promises_nothing_in_vain(running: Running, small_world: SmallWorld) -> None:
    users, killed = small_world.users, threading.Event()
    created_at = pd.Timestamp(running.stores.clock.now() - 60, unit="s", tz="UTC").isoformat()

    def ask(n: int) -> tuple[str, httpx.Response]:
        if n == 40:
            os.kill(min(pids_of(running, "Ranker")), signal.SIGKILL)
            killed.set()
        item_id = f"talk{n % 10}"
        mine = [users[(n * 7 + k) % len(users)] for k in range(5)]
        return item_id, api.post("/v1/urgent", json=body(item_id, mine, created_at=created_at), headers={"Idempotency-Key": f"ask{n}"})

    with running.client() as api, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(200)))
        decided = [row for _, answer in answers if answer.status_code == 202 for row in decisions_of(api, answer.json()["decision_id"])]
    assert killed.is_set()
    codes = {answer.status_code for _, answer in answers}
    assert codes <= {202, 503}
    assert sum(answer.status_code == 202 for _, answer in answers) > 100
    for _, answer in answers:
        if answer.status_code == 503:
            problem_of(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
    probabilities_are_those_of_each_row_alone(running, small_world, [row for row in decided if row["model_id"] != POPULARITY])
    until(lambda: len(pids_of(running, "Ranker") & living().keys()) == 2, PATIENCE_S, "Serve has replaced the ranker")


def decisions_of(api: httpx.Client, decision_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.get("/v1/decisions", params={"decision_id": decision_id}).raise_for_status().json()["decisions"]
    assert rows
    return rows


def probabilities_are_those_of_each_row_alone(running: Running, small_world: SmallWorld, decided: list[dict[str, Any]]) -> None:
    stores = running.stores
    table = ItemTable(stores.items)
    now = stores.clock.now()
    table.sync(now)
    scorer = Scorer(bundles.load(small_world.model, verified=True), RedisFeatureStore(stores.client, stores.meta.keys), table)
    checked = {}
    for row in decided:
        if row["probability"] is None:
            continue
        one, channel = np.zeros(1, np.int32), np.zeros(1, np.uint8)
        alone = float(scorer.score([row["user_id"]], [row["item_id"]], one, one, channel, ("in_app",), now).probability[0])
        assert row["probability"] == pytest.approx(alone, abs=2e-6), row
        checked[row["user_id"], row["item_id"]] = alone
    assert len(set(checked.values())) > 50


def test_without_a_store_or_a_sound_model_it_says_why_it_does_not_start(
    home: Path, small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupted = shutil.copytree(small_world.model, tmp_path / "model")
    content = bytearray((corrupted / bundles.MODEL).read_bytes())
    content[len(content) // 2] ^= 4
    (corrupted / bundles.MODEL).write_bytes(content)
    nowhere = "unix:///tmp/there-is-no-store-here.sock"
    with at_home(tmp_path / "home"):
        for words, environment, complaint in (
            (["--model", str(tmp_path / "none")], {}, "there is no such model folder"),
            (["--model", str(corrupted)], {}, "is not the file that was written"),
            (["--model", str(small_world.model)], {"REDIS_URL": nowhere}, f"the store at {nowhere} does not answer"),
        ):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            done = tidings("up", "--detach", "--port", str(free_port()), *words)
            assert done.returncode == 2, done.stderr
            assert complaint in " ".join(done.stderr.split())
            assert "Traceback" not in done.stderr
