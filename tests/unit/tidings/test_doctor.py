"""The doctor finds what is there, and says what to do about what is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
from redis import Redis
from rich.console import Console
from typer.testing import CliRunner

from lake.redis_clock import RedisClock
from lake.redis_health import StoreHealth
from lake.redis_store import open_meta
from tidings import doctor
from tidings.cli import app

SOUND = StoreHealth(
    server="valkey",
    version="9.1.2",
    redis_version=(7, 2, 4),
    clustered=False,
    aof=True,
    aof_writes=True,
    appendfsync="always",
    maxmemory_policy="noeviction",
    used_memory_bytes=1,
    layout="t1",
    shards=16,
    held_at=None,
)


@pytest.fixture
def quiet_ports(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port for HTTP, and the other ports as if free, whatever else runs on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    monkeypatch.setattr(doctor, "in_use", lambda _: False)
    monkeypatch.setattr(doctor, "DASHBOARD_PORT", port)
    return port


@pytest.fixture
def ray_dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[BaseHTTPRequestHandler]]:
    """A server that answers as Ray's dashboard does; its class's `answer` is (status, body)."""

    class Dashboard(BaseHTTPRequestHandler):
        answer = (200, b'{"ray_version": "2.60.0"}')

        def do_GET(self) -> None:
            status, body = self.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        monkeypatch.setattr(doctor, "DASHBOARD_PORT", server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        yield Dashboard
        server.shutdown()


def test_a_sound_store_gets_no_advice() -> None:
    assert doctor.judge_store(SOUND) == []


@pytest.mark.parametrize(
    ("health", "what"),
    [
        (replace(SOUND, aof=False), "append-only file is off"),
        (replace(SOUND, aof_writes=False), "append-only file failed"),
        (replace(SOUND, appendfsync="no"), "appendfsync is `no`"),
        (replace(SOUND, maxmemory_policy="allkeys-lru"), "allkeys-lru"),
        (replace(SOUND, server="redis", version="6.2.1", redis_version=(6, 2, 1)), "no WAITAOF"),
    ],
)
def test_a_store_that_could_forget_a_grant_is_wrong(health: StoreHealth, what: str) -> None:
    (advice,) = doctor.judge_store(health)
    assert what in advice.what
    assert advice.remedy
    assert advice.wrong


def test_a_slow_store_is_a_remark_and_not_a_fault() -> None:
    (advice,) = doctor.judge_store(replace(SOUND, appendfsync="everysec"))
    assert not advice.wrong


def test_a_store_in_use_is_described_with_its_shards_and_its_clock(embedded_store: str, redis_client: Redis) -> None:
    open_meta(redis_client)
    RedisClock(redis_client).hold(1_475_452_800.0)
    store, clock = doctor.examine_store_at(embedded_store, "REDIS_URL")
    assert not store.wrong
    assert {"server": "valkey", "aof": True, "appendfsync": "always", "shards": 16}.items() <= store.facts.items()
    assert clock.facts == {"held": True, "at": "2016-10-03T00:00:00+00:00"}
    assert not clock.wrong


@pytest.mark.parametrize("url", ["redis://someone:hunter2@127.0.0.1:1", "nonsense"])
def test_a_store_that_does_not_answer_is_wrong_and_its_password_stays_secret(url: str) -> None:
    (store,) = doctor.examine_store_at(url, "REDIS_URL")
    assert store.wrong
    assert "hunter2" not in json.dumps(doctor.report([store]))


def test_a_port_taken_by_another_program_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        port = int(other.getsockname()[1])
        ports = doctor.examine_network(port, ours=True)[-1]
    assert any(f"port {port}" in advice.what for advice in ports.advice if advice.wrong)


@pytest.mark.parametrize(("ours", "wrong"), [(True, False), (False, True)])
def test_a_tidings_and_a_ray_that_are_not_ours_are_not_taken_for_them(
    ray_dashboard: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch, ours: bool, wrong: bool
) -> None:
    monkeypatch.setattr(doctor, "in_use", lambda port: port in {8123, doctor.DASHBOARD_PORT})
    monkeypatch.setattr(doctor, "_answers", lambda *_: True)
    ports = doctor.examine_network(8123, ours=ours)[-1]
    assert ports.wrong is wrong
    said = [advice.what for advice in ports.advice]
    theirs = ["port 8123 (HTTP) is taken by another Tidings", f"port {doctor.DASHBOARD_PORT} (Ray dashboard) is taken by another Ray"]
    assert said == ([] if ours else theirs)


def test_a_running_ray_is_found(ray_dashboard: type[BaseHTTPRequestHandler]) -> None:
    ray = doctor.examine_ray()
    assert ray.facts["running"]
    assert not ray.wrong


@pytest.mark.parametrize(
    ("answer", "running", "wrong"),
    [
        ((401, b"no token"), True, False),
        ((200, b'{"ray_version": "1.0.0"}'), True, True),
        ((200, b"hello"), False, False),
        ((404, b""), False, False),
    ],
)
def test_ray_is_told_from_other_programs_and_other_versions(
    ray_dashboard: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes], running: bool, wrong: bool
) -> None:
    monkeypatch.setattr(ray_dashboard, "answer", answer)
    ray = doctor.examine_ray()
    assert ray.facts["running"] is running
    assert ray.wrong is wrong


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not doctor.examine_disk(tmp_path / "not" / "there" / "yet").wrong
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert len(doctor.examine_disk(tmp_path).advice) == 2


def test_the_installed_packages_fit() -> None:
    assert not doctor.examine_python().wrong


def test_the_command_reports_a_machine_that_is_well(quiet_ports: int) -> None:
    result = CliRunner().invoke(app, ["doctor", "--port", str(quiet_ports), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["ok"]
    assert found["problems"] == []
    assert found["store"]["server"] == "valkey"


def test_the_command_leaves_with_1_where_something_is_wrong(quiet_ports: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    result = CliRunner().invoke(app, ["doctor", "--port", str(quiet_ports)])
    assert result.exit_code == 1
    assert "does not answer" in result.stdout


@pytest.mark.parametrize(
    ("advice", "verdict"),
    [
        ((), "All is well."),
        ((doctor.Advice("it could be faster", "turn it on", wrong=False),), "Nothing is wrong; some things could be better."),
        ((doctor.Advice("it is off", "turn it on"),), "Some things need attention."),
    ],
)
def test_the_verdict_is_as_good_as_what_was_found(advice: tuple[doctor.Advice, ...], verdict: str) -> None:
    console = Console(file=(told := StringIO()), width=200)
    console.print(doctor._summary([doctor.Finding("store", "found", {}, advice)]))
    assert verdict in told.getvalue()
