"""The benchmarks at tiny sizes, through the command: what they report, and that what they did was right. Speed is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lake.ids import shard_of
from tidings.bench_data import NOW, BenchData
from tidings.bench_send_time import histogram, tables
from tidings.bench_urgent import UrgentLoad, requests
from tidings.load import content_length

URGENT = {
    *("requests_per_s", "candidates_per_s", "p50_ms", "p90_ms", "p99_ms", "errors", "connections"),
    *("peer_name", "peer_requests_per_s", "ratio", "mix", "all_runs", "data"),
}
WINDOW = {"users", "candidates", "sent", "overspent", "candidates_per_s", "peer_candidates_per_s", "ratio", "all_runs", "data"}


def _bench(home: Path, *args: str) -> dict[str, Any]:
    """Run `tidings bench` as a person would and return what it prints."""
    command = [str(Path(sys.executable).parent / "tidings"), "bench", *args, "--json"]
    environment = os.environ | {"TIDINGS_HOME": str(home)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=500)
    assert run.returncode == 0, run.stderr[-3000:]
    (line,) = run.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first of the benchmarks leaves its tables and model for the next."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.timeout(900)
def test_a_small_window_moves_everybody_on_and_overspends_nobody(tmp_path: Path, keep: Path) -> None:
    report = _bench(tmp_path, "window", "--users", "600", "--rounds", "1", "--keep", str(keep))
    assert report.keys() >= WINDOW
    assert report["candidates"] == 600 * BenchData().per_user
    assert [run["sent"] for run in report["all_runs"]] == [600 * 3, 600 * 3]
    assert report["sent_when_spent"] == 0
    assert report["overspent"] == 0
    assert report["data"]["trees"] == 300


@pytest.mark.timeout(900)
def test_a_short_urgent_load_is_answered_without_errors_and_mostly_sent(tmp_path: Path, keep: Path) -> None:
    report = _bench(tmp_path, "urgent", "--users", "600", "--connections", "4", "--seconds", "1", "--keep", str(keep))
    assert len(list(keep.iterdir())) == 1
    assert report.keys() >= URGENT
    assert report["errors"] == 0
    assert report["statuses"].keys() == {"202"}
    assert report["requests_per_s"] > 0
    assert report["peer_requests_per_s"] > 0
    assert report["mix"]["send"] > 0.5
    assert sum(report["mix"].values()) == pytest.approx(1.0, abs=0.01)


def test_send_times_are_measured_beside_a_plain_histogram(tmp_path: Path) -> None:
    report = _bench(tmp_path, "send-time", "--users", "500")
    assert report.keys() >= {"users", "events", "users_per_s", "cpu_s", "peer_name", "peer_users_per_s", "ratio", "cpu_ratio"}
    assert report["users"] == 500


def test_the_histogram_counts_every_event_in_its_utc_hour_of_the_week() -> None:
    events, people = tables(50, 8, seed=1)
    counts = histogram(events, people)
    assert counts.shape == (50, 168)
    assert counts.sum(axis=1).tolist() == [8] * 50
    at = events["at"].iloc[0]
    user = people["user_id"].tolist().index(events["user_id"].iloc[0])
    assert counts[user, at.weekday() * 24 + at.hour] > 0


def test_the_same_seed_gives_the_same_tables_and_nothing_from_the_future() -> None:
    data = BenchData(users=50, items=400, authors=80, urgent=20)
    first, second = data.dataset(), data.dataset()
    for name, frame in first.tables.items():
        assert frame.equals(second.tables[name])
    assert max(first.events["at"].max().timestamp(), first.items["created_at"].max().timestamp()) < NOW
    assert {shard_of(user, 16) for user in data.user_ids} == set(range(16))


def test_a_request_names_distinct_users_and_is_framed_as_it_says() -> None:
    data, load = BenchData(users=200, urgent=10), UrgentLoad(requests=20, new_items=0.5)
    sent = requests(data, load, "key")
    for request in sent:
        head, _, body = request.partition(b"\r\n\r\n")
        assert content_length(head) == len(body)
        assert len(set(json.loads(body)["users"])) == load.users_per_request
    assert 0 < np.mean([b'"item"' in request for request in sent]) < 1
