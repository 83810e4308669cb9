"""The whole system on one machine: what it answers, what it refuses, what it shows, and how it goes down and comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from budgets.allowance import weekly_budget
from lake.dataset import Dataset
from lake.history import History
from ranking.blocks import USER_STATS
from ranking.redis_features import RedisFeatureStore
from scheduler.learned_budgets import TABLE, week_of
from scheduler.windows import SLOT_S
from tests.integration.budget_weeks import file_past_weeks, kill, stopped_amid_assignment, weeks_filed
from tests.integration.conftest import SmallWorld
from tests.integration.processes import descendants, living, of_home
from tests.integration.systems import PORT, Running, answer_of, prepare_store, system, tidings, up
from tests.integration.waiting import until
from tests.unit.gateway.problems import problem_of
from tidings.cli import app
from tidings.home import running as running_state
from tidings.ray_status import details

pytestmark = pytest.mark.timeout(600)

ANN, TALK = "ann", "talk"
CHANNEL, MEAN = "in_app", 4.0
PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def running(home: Path, small_world: SmallWorld) -> Iterator[Running]:
    """The small world's system at the end of its history, with one more user and one more item; each night it learns half of the budgets
    and draws the others.
    """
    prepare_store(home / "store", small_world.end_at)
    learned: dict[str, Any] = {"learned_budgets": {CHANNEL: MEAN}, "explored_budgets": 0.5}
    with system(home, "--model", str(small_world.model), "--data", str(small_world.data), **learned) as started:
        with started.client() as api:
            assert api.put(f"/v1/users/{ANN}", json={"timezone": "Europe/Berlin"}).status_code == 204
            item = {"title": "A talk", "topics": ["chess"], "half_life_s": 600, "created_at": iso(small_world.end_at - 60)}
            assert api.put(f"/v1/items/{TALK}", json=item).status_code == 204
        yield started


@pytest.fixture
def api(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _at_home(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(running.home))


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def urgent(api: httpx.Client, key: str | None = None, **body: Any) -> httpx.Response:
    body = {"item_id": TALK, "users": [ANN], "channels": ["in_app"]} | body
    return api.post("/v1/urgent", json=body, headers={} if key is None else {"Idempotency-Key": key})


def test_it_says_that_it_is_well(api: httpx.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok", "checks": {"store": "ok", "ranker": "ok"}}


def test_an_urgent_item_reaches_the_inbox_and_the_decision_log_and_a_repeat_gets_the_same_answer(api: httpx.Client) -> None:
    answer = urgent(api, "once")
    assert answer.status_code == 202
    (row,) = answer.json()["results"]
    assert (row["user_id"], row["channel"], row["disposition"]) == (ANN, "in_app", "send")
    assert 0 < row["score"] < 1
    (entry,) = until(lambda: api.get(f"/v1/users/{ANN}/inbox").json()["entries"], PATIENCE_S)
    assert entry["title"] == "A talk"
    (logged,) = api.get("/v1/decisions", params={"decision_id": answer.json()["decision_id"]}).json()["decisions"]
    assert (logged["user_id"], logged["item_id"], logged["lane"], logged["disposition"]) == (ANN, TALK, "urgent", "send")
    assert logged["value"] == pytest.approx(row["score"], abs=1e-6)
    assert urgent(api, "once").content == answer.content
    problem_of(urgent(api, "once", users=[ANN, "bob"]), 422)
    again = urgent(api).json()["results"][0]
    assert (again["disposition"], again["reason"]) == ("duplicate", "already_sent")
    assert len(api.get(f"/v1/users/{ANN}/inbox").json()["entries"]) == 1


def test_unknown_users_are_told_apart_and_logged(api: httpx.Client) -> None:
    answer = urgent(api, users=["nobody", "no one"])
    assert [(row["disposition"], row["reason"]) for row in answer.json()["results"]] == [("ineligible", "unknown_user")] * 2
    logged = api.get("/v1/decisions", params={"decision_id": answer.json()["decision_id"]}).json()["decisions"]
    assert {row["user_id"] for row in logged} == {"nobody", "no one"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"users": ["u"] * 10_001}, "users"),
        ({"users": []}, "users"),
        ({"users": None, "topic": "nobody-follows-this"}, "topic"),
        ({"users": ["ann\x00"]}, "users[0]"),
        ({"users": ["ann\r\nBcc: eve"]}, "users[0]"),
        ({"item_id": None, "item": {"item_id": "x", "title": "Hello\r\nBcc: eve@example.org"}}, "item.title"),
        ({"item_id": None, "item": {"item_id": "x", "text": "nul \x00"}}, "item.text"),
        ({"item_id": None, "item": {"item_id": "x", "created_at": "2025-04-21T12:00:00"}}, "item.created_at"),
        ({"item_id": None, "item": {"item_id": "x", "created_at": "2031-01-01T00:00:00Z"}}, "item.created_at"),
        ({"channels": ["pigeon"]}, "channels"),
    ],
)
def test_a_bad_request_is_refused_with_its_field_and_decides_nothing(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    problem = problem_of(urgent(api, **body), 422)
    assert problem["errors"][0]["field"] == field


def test_what_is_too_large_or_from_nobody_is_refused(api: httpx.Client) -> None:
    problem_of(api.post("/v1/urgent", content=b" " * (2 << 20)), 413)
    problem_of(api.post("/v1/urgent", content=b"{", headers={"Content-Type": "application/json"}), 400)
    problem_of(api.get("/v1/users/ann", headers={"Authorization": "Bearer nonsense"}), 401)


def test_items_and_addresses_with_line_breaks_or_from_the_future_are_refused(api: httpx.Client, small_world: SmallWorld) -> None:
    problem_of(api.put("/v1/items/later", json={"created_at": iso(small_world.end_at + 86400)}), 422)
    problem_of(api.put(f"/v1/users/{ANN}/addresses", json={"email": "ann@example.org\r\nBcc: eve@example.org"}), 422)
    problem_of(api.put("/v1/items/x", json={"created_at": "2025-04-01T10:00:00"}), 422)
    problem_of(api.post("/v1/events", json={"user_id": ANN, "kind": "open", "at": "2025-04-01T10:00:00"}), 422)


def test_an_event_counts_once_and_what_was_seen_is_not_news(api: httpx.Client) -> None:
    assert api.put("/v1/items/seen", json={"title": "Seen", "half_life_s": 600}).status_code == 204
    event = {"user_id": ANN, "item_id": "seen", "kind": "view", "event_id": "e1"}
    assert api.post("/v1/events", json=event).json() == {"accepted": 1, "duplicates": 0}
    assert api.post("/v1/events", json=event).json() == {"accepted": 0, "duplicates": 1}
    assert urgent(api, item_id="seen").json()["results"][0]["reason"] == "already_engaged"


def test_the_console_opens_once_with_its_link_and_shows_numbers(running: Running) -> None:
    with httpx.Client(timeout=60.0) as browser:
        assert browser.get(f"{running.state.api_url}/console").status_code == 401
        page = browser.get(running.state.console_url, follow_redirects=True)
        assert page.status_code == 200
        assert "Tidings" in page.text
        until(lambda: browser.get(f"{running.state.api_url}/console/data").json()["sends"], PATIENCE_S)  # counted once a second
    with httpx.Client(timeout=60.0) as stranger:
        assert stranger.get(running.state.console_url, follow_redirects=True).status_code == 401


def test_the_commands_see_the_running_system(running: Running) -> None:
    status = said("status")
    assert status["running"]
    assert set(status["deployments"]) == {"Gateway", "Ranker", "Scheduler", "Courier"}
    assert all(text.startswith("healthy, 1") for text in status["deployments"].values())
    key = said("keys", "new", "--scope", "read")
    assert any(each["id"] == key["id"] for each in said("keys", "list")["keys"])
    said("keys", "revoke", key["id"])
    assert said("deadletters", "list")["letters"] == []
    doctor = said("doctor", "--port", str(PORT))
    assert doctor["problems"] == []
    assert doctor["store"]["running"]
    assert doctor["clock"]["held"]
    second = CliRunner().invoke(app, ["up", "--detach", "--model", running.state.model])
    assert second.exit_code == 2
    assert "running already" in " ".join(second.stderr.split())


def said(*words: str) -> dict[str, Any]:
    """Run a command in this process and return its JSON object."""
    run = CliRunner().invoke(app, [*words, "--json"])
    assert run.exit_code == 0, run.output
    report: dict[str, Any] = json.loads(run.stdout)
    return report


def test_a_tick_decides_everybody_who_is_due_once_and_delivers(running: Running, small_world: SmallWorld, api: httpx.Client) -> None:
    stores = running.stores
    now = small_world.end_at + 86400
    slot = int(now // SLOT_S)
    due = int(stores.due.counts(slot).sum())
    assert due > len(small_world.users) / 2
    stores.clock.hold(now)
    report = running.tick()
    assert report is not None
    assert report["users"] == due
    assert int(stores.due.counts(slot).sum()) == 0
    again = running.tick()
    assert again is not None
    assert again["users"] == 0
    rows = running.decisions()
    rows = rows[rows["lane"] == "scheduled"]
    assert (rows.groupby("user_key")["decision_id"].nunique() == 1).all()
    sent = rows[rows["disposition"] == "send"]
    assert len(sent) == report["sends"] > 0
    assert sent.groupby("user_key").size().max() <= 3
    theirs = sent[sent["user_key"] != stores.user_keys.known([ANN])[0]]
    told = until(lambda: (found := in_inboxes(running, small_world.users)) >= len(theirs) and found, PATIENCE_S)
    assert told == len(theirs)


def test_what_was_done_and_sent_shows_in_the_next_days_features_and_in_tables_to_train_on(
    running: Running, small_world: SmallWorld, api: httpx.Client, tmp_path: Path
) -> None:
    stores, now = running.stores, small_world.end_at + 86400
    features = RedisFeatureStore(stores.client, stores.meta.keys)
    assert not features.get([ANN], []).known[0]
    assert api.post("/v1/events", json={"user_id": ANN, "item_id": TALK, "kind": "like", "at": iso(now)}).status_code == 202
    stores.clock.hold(now + 86400)  # what is posted is filed as the store's time goes on
    kept = History(running.state.history)
    until(lambda: "like" in kept.read("events", now - 86400, now + 86400)["kind"].tolist(), PATIENCE_S)
    sent = running.decisions().query("disposition == 'send'")
    rows = said("collect", "--into", str(tmp_path / "tables"))["rows"]
    refreshed = said("refresh")
    dataset = Dataset.load(tmp_path / "tables")
    assert rows["sends"] == len(dataset.sends)
    assert (dataset.sends["at"] >= pd.Timestamp(small_world.end_at, unit="s", tz="UTC")).sum() == len(sent)
    assert (dataset.events.iloc[-1]["user_id"], dataset.events.iloc[-1]["item_id"]) == (ANN, TALK)
    assert (refreshed["users"], refreshed["as_of"]) == (len(small_world.users) + 1, (now // 86400 + 1) * 86400)
    found = features.get([ANN, str(dataset.sends.iloc[-1]["user_id"])], [])
    assert found.known.tolist() == [True, True]
    assert found.users.stats[0, USER_STATS.index("engaged_3d")] > 0
    assert found.users.stats[1, USER_STATS.index("sent_1d")] >= 1
    assert stores.due.slots([ANN])[0] > now // SLOT_S


def in_inboxes(running: Running, users: list[str]) -> int:
    with running.client() as api:
        return sum(len(api.get(f"/v1/users/{user}/inbox").json()["entries"]) for user in users)


def test_our_metrics_leave_through_rays_and_its_dashboard_knows_the_deployments(running: Running, api: httpx.Client) -> None:
    urgent(api)
    until(lambda: {'lane="urgent"', 'lane="scheduled"'} <= tags_of(running, "ray_tidings_candidates_total"), PATIENCE_S)
    wanted = {"sends_total", "windows_total", "window_lag_s", "rows_in_flight", "outbox_backlog", "urgent_latency_ms_count"}
    until(lambda: missing(running, wanted) == set(), PATIENCE_S, f"all of {sorted(wanted)} are exported")
    application = details(running.state).applications["tidings"]
    assert application.status == "RUNNING"
    assert {name: len(deployment.replicas) for name, deployment in application.deployments.items()} == {
        "Gateway": 1,
        "Ranker": 1,
        "Scheduler": 1,
        "Courier": 1,
    }
    problem = httpx.get(running.state.dashboard_url + "/api/serve/applications/", timeout=30.0)
    assert problem.status_code in (401, 403)


def missing(running: Running, wanted: set[str]) -> set[str]:
    """Return which metrics are not exported."""
    return wanted - set(re.findall(r"^ray_tidings_(\w+)", scraped(running), re.MULTILINE))


def scraped(running: Running) -> str:
    """Return what Prometheus would read of this system's nodes."""
    (found,) = (running.home / "ray").glob("prom_metrics_service_discovery.json")
    targets = [target for group in json.loads(found.read_text()) for target in group["targets"]]
    return "\n".join(httpx.get(f"http://{target}/metrics", timeout=30.0).text for target in targets)


def tags_of(running: Running, name: str) -> set[str]:
    lines = [line for line in scraped(running).splitlines() if line.startswith(name + "{")]
    return {tag for line in lines for tag in re.findall(r'\w+="[^"]*"', line)}


def test_the_nights_work_can_be_had_now_learns_budgets_though_its_worker_dies_and_is_not_done_twice(
    running: Running, small_world: SmallWorld
) -> None:
    stores, users, folder = running.stores, small_world.users, Path(running.state.history)
    now, history = stores.clock.now(), History(running.state.history)
    file_past_weeks(history, stores.user_keys, users, CHANNEL, MEAN, now)
    before = stores.profiles.get(users)["learned"]
    with ThreadPoolExecutor(1) as beside:
        nightly = beside.submit(tidings, "nightly", "--json")
        with stopped_amid_assignment(folder, now, stores.client) as worker:
            filed = weeks_filed(folder, now)
            assert np.array_equal(stores.profiles.get(users)["learned"], before)
            kill(worker)
        done = nightly.result()
    assert done.returncode == 0, done.stderr
    assert weeks_filed(folder, now) == filed
    week = history.read(TABLE, now - 60, now + 60).query("channel == @CHANNEL")
    week = week[week["week"] == week_of(now)].set_index("user_key").loc[stores.user_keys.of(users)]
    learned = week["learned"].to_numpy(bool)
    assert (learned == ~week["drawn"].to_numpy(bool)).all()
    assert 0.4 < learned.mean() < 0.6
    assert MEAN * 0.85 * learned.sum() < week["weekly"].to_numpy()[learned].sum() <= round(MEAN * learned.sum())
    profiles = stores.profiles.get(users)
    default = np.full(len(stores.meta.channels), 10, np.uint8)
    budget = weekly_budget(profiles["budget"], default, profiles["dial"], profiles["learned"])
    assert budget[:, stores.meta.channel_codes([CHANNEL])[0]].tolist() == week["weekly"].tolist()
    assert answer_of("nightly") == {"done": True}
    assert (stores.profiles.get(users)["learned"] == profiles["learned"]).all()


def test_it_goes_down_without_a_trace_and_comes_back_with_its_data(running: Running, small_world: SmallWorld) -> None:
    with running.client() as api:
        answer = urgent(api, "before the restart", users=[small_world.users[0]])
        inbox = api.get(f"/v1/users/{ANN}/inbox").json()
    state = running_state()
    assert state is not None
    family = descendants(state.pid) | of_home(running.home)
    assert len(family) > 5
    answer_of("down")
    assert running_state() is None
    until(lambda: not (family | of_home(running.home)) & living().keys(), PATIENCE_S, "every process is gone")
    log = (running.home / "supervisor.log").read_text()
    assert "Traceback" not in log, log
    assert tidings("status").returncode == 1
    up(running.home, "--model", str(small_world.model))
    with running.client() as api:
        assert urgent(api, "before the restart", users=[small_world.users[0]]).content == answer.content
        assert api.get(f"/v1/users/{ANN}/inbox").json() == inbox
    assert said("refresh")["users"] == len(small_world.users) + 1
