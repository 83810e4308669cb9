"""The supervisor of a system on one machine: store, Ray, Serve application; started by `tidings up`, ended by SIGTERM.

It runs as a process of its own, `python -m tidings.ray_system`, with Ray's settings in its environment before Ray is
imported, and speaks one JSON object per line on stdout: {"step": ...} while it starts, then {"ready": state}.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from pydantic import ValidationError
from ray import serve
from ray.serve.config import HTTPOptions

from gateway.api_keys import login_token
from gateway.redis_api_keys import RedisApiKeys
from gateway.redis_faults import STORE_AWAY
from lake import logs
from lake.dataset import Dataset
from lake.embedded import EmbeddedStore
from lake.errors import InputError
from lake.redaction import without_password
from lake.redis_clock import RedisClock
from lake.redis_store import connect
from ranking.refresh import refresh
from scheduler.delivery_delays import opening_earlier
from scheduler.loading import load as load_users
from scheduler.loading import move_windows
from scheduler.send_time import fit
from tidings.home import State, folder, loaded_tables, remember_tables
from tidings.system import Wanted, tell

SPARE_CPUS = 3
"""Logical CPUs beyond the machine's: gateway, scheduler and courier mostly wait, and windows must not wait for them."""

OBJECT_STORE_BYTES = 256 << 20


def main() -> None:
    """Run the system that the JSON object on stdin asks for until SIGTERM or SIGINT."""
    logs.configure()
    wanted = Wanted.of_json(sys.stdin.read())
    stopping = threading.Event()
    _on_signals(stopping)
    with ExitStack() as stack:
        try:
            state = start(wanted, stack)
        except InputError as error:
            tell({"error": str(error)})
            raise SystemExit(2) from error
        _on_signals(stopping)  # Ray has put its own handlers in their place, which end the process at once
        state.save()
        stack.callback(state.forget)
        tell({"ready": asdict(state)})
        stopping.wait()
        tell({"step": "finishing what is under way"})


def _on_signals(stopping: threading.Event) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())


def start(wanted: Wanted, stack: ExitStack) -> State:
    """Start everything, leaving on `stack` how to stop it, and return where to find it."""
    tell({"step": "starting the store"})
    store_url = wanted.redis_url or stack.enter_context(EmbeddedStore(Path(wanted.store))).url
    settings_args = wanted.settings | {"redis_url": store_url, "model": wanted.model, "public_url": f"http://127.0.0.1:{wanted.port}"}
    settings_args["tables"] = wanted.data or settings_args.get("tables") or loaded_tables()
    serve_app = import_module("serve_app")  # by name: nothing but a deployment may depend on what picks the implementations
    try:
        settings = serve_app.Settings(**settings_args)
    except ValidationError as error:
        raise InputError(_misset(error)) from error
    _reach(store_url)
    if wanted.data:
        tell({"step": "loading users, items and features"})
        load(wanted, settings, serve_app)
        remember_tables(wanted.data)
    tell({"step": "starting Ray"})
    dashboard_url = stack.enter_context(_ray(wanted))
    tell({"step": "starting gateway, ranker, scheduler and courier"})
    api_url = stack.enter_context(_application(wanted, serve_app.app(settings.model_copy(update={"dashboard_url": dashboard_url}))))
    with connect(store_url) as client:
        login = login_token(RedisApiKeys(client), RedisClock(client).now())
    return State(
        pid=os.getpid(),
        store_url=store_url,
        api_url=api_url,
        ray_address=ray.get_runtime_context().gcs_address,
        dashboard_url=dashboard_url,
        model=wanted.model,
        login=login,
        history=settings.history,
    )


def _misset(error: ValidationError) -> str:
    """Return what is wrong with settings, a line for each, without the values: some are secrets."""
    lines = [
        f"settings: {'.'.join(map(str, each['loc'])) or 'all'}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()
    ]
    return "\n".join([*lines, "docs/channels.md and `Settings` in serve_app.py say what there is"])


def _reach(store_url: str) -> None:
    """Raise InputError where the store does not answer."""
    try:
        with connect(store_url) as client:
            client.ping()
    except STORE_AWAY as error:
        raise InputError(f"the store at {without_password(store_url)} does not answer: {error}") from error


def load(wanted: Wanted, settings: Any, serve_app: Any) -> None:
    """Fill the store from a folder of tables, as of the store's time, and with what has happened here since, where something has."""
    stores = serve_app.stores_of(settings)
    now = stores.clock.now()
    began = Dataset.load(wanted.data or "", pd.Timestamp(now, unit="s", tz="UTC"))
    job = serve_app.refresh_of(settings)
    load_users(
        began, stores.loading(), now, fit(began.events, began.users, now=now), windows_per_week=opening_earlier(job.windows, began, now)
    )
    known = job.dataset(now)
    refresh(known or began, now, serve_app.features_of(settings), with_counts=True)
    if known is not None and len(known.events) > len(began.events):
        users = known.users["user_id"].tolist()
        move_windows(users, stores.loading(), now, fit(known.events, known.users, now=now), opening_earlier(job.windows, known, now))


@contextmanager
def _ray(wanted: Wanted) -> Iterator[str]:
    """Start a Ray of our own, reached on loopback only; yields the dashboard's URL."""
    try:
        context = ray.init(
            num_cpus=(os.cpu_count() or 1) + SPARE_CPUS,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            _temp_dir=wanted.ray_folder,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray has no kind of its own for this
        told, where = str(error).partition("\n")[0], f"session_latest/logs in {wanted.ray_folder or 'its own folder'}"
        raise InputError(f"Ray did not start: {told} Its logs are in {where}; on a machine that was only busy, try again") from error
    try:
        yield f"http://{context.dashboard_url}"
    finally:
        ray.shutdown()


@contextmanager
def _application(wanted: Wanted, application: serve.Application) -> Iterator[str]:
    """Run the application behind HTTP on loopback; yields its URL."""
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=wanted.port), logging_config={"enable_access_log": False})
    serve.run(application, name="tidings")
    try:
        yield f"http://127.0.0.1:{wanted.port}"
    finally:
        serve.shutdown()


if __name__ == "__main__":
    folder().mkdir(parents=True, exist_ok=True)
    main()
