"""What a system on this machine needs before it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from lake.errors import InputError
from serve_app import Settings
from tidings import ray_system, system
from tidings.system import Wanted, end_like_ctrl_c, haproxy_environment, start


@pytest.fixture
def taken() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def test_a_port_that_is_taken_is_told_before_anything_starts(taken: socket.socket, tmp_path: Path) -> None:
    with taken, pytest.raises(InputError, match=rf"port {taken.getsockname()[1]} is taken by another program; name a free one with --port"):
        start(Wanted(model="m", store=str(tmp_path), port=taken.getsockname()[1]), lambda _: None)


def test_haproxy_keeps_its_usual_ports_unless_another_system_has_them(taken: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    number = taken.getsockname()[1]
    monkeypatch.setattr(system, "HAPROXY_PORTS", {"STATS": number})
    with taken, haproxy_environment() as (environment, _):
        assert environment["STATS"] != str(number)
    with haproxy_environment() as (environment, claims):
        assert environment["STATS"] == str(number)
        with haproxy_environment() as (other, _):  # another system, that starts before this one listens
            assert other["STATS"] != str(number)
        supervisor = subprocess.Popen(["sleep", "60"], pass_fds=claims)
    try:
        with haproxy_environment() as (other, _):  # started, and not listening yet
            assert other["STATS"] != str(number)
    finally:
        supervisor.kill()
        supervisor.wait()
    with haproxy_environment() as (environment, _):
        assert environment["STATS"] == str(number)


def test_haproxy_hears_what_its_owner_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "7")
    with haproxy_environment() as (environment, _):
        assert environment["RAY_SERVE_HAPROXY_NBTHREAD"] == "7"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_the_command_ends_what_it_started(signum: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell leaves it to what it runs in the background
    try:
        end_like_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signum)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_ray_that_does_not_start_is_told_in_one_line_with_where_its_logs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def busy(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nmore of it")

    monkeypatch.setattr("ray.init", busy)
    wanted = Wanted(model="m", store="", ray_folder=str(tmp_path))
    with pytest.raises(InputError) as told, ray_system._ray(wanted):
        pass
    assert "timed out during startup. Its logs are in" in str(told.value)
    assert "\n" not in str(told.value)


def test_wrong_settings_are_told_in_a_line_each_without_their_values() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis_url": "unix:///nowhere", "model": "m", "weekly": {"in_ap": 3}, "chanels": "secret"})
    told = ray_system._misset(caught.value)
    assert [line.split(": ")[:2] for line in told.splitlines()[:-1]] == [["settings", "weekly"], ["settings", "chanels"]]
    assert "unknown channel 'in_ap'" in told
    assert "secret" not in told
    assert "Traceback" not in told
