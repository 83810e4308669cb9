"""`tidings up`, `down` and `status`: the whole system on this machine."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from gateway.api_keys import login_token
from gateway.redis_api_keys import RedisApiKeys
from gateway.redis_faults import STORE_AWAY
from lake.errors import InputError
from lake.redaction import without_password
from lake.redis_alarms import RedisAlarms
from lake.redis_clock import RedisClock
from lake.redis_store import connect
from tidings.console import Json, emit, facts, fail, say, step
from tidings.home import State, folder, nothing_runs, running
from tidings.system import Wanted, end_like_ctrl_c, has_ended, ray_folder, refuse_second, start, stop, store_folder

if TYPE_CHECKING:
    from ranking.registry import Registry

# What reads models, tables or Ray is imported where it is used: `down` needs none of it, and it takes seconds to load.


def register(app: typer.Typer) -> None:
    """Add `up`, `down` and `status`."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)


def up(
    data: Annotated[Path | None, typer.Option(help="A folder of interchange tables to load into the store.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model folder or a registry; else one is trained on --data, or the last one serves.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the system serves; `tidings down` stops it.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the HTTP API and the console.")] = 8000,
    store: Annotated[Path | None, typer.Option(help="Where the embedded store keeps its data; REDIS_URL names another store.")] = None,
    settings: Annotated[Path | None, typer.Option(help="A JSON file of the deployment's settings, such as channels and budgets.")] = None,
    as_json: Json = False,
) -> None:
    """Start the whole system on this machine: store, ranker, gateway, scheduler and courier."""
    refuse_second(port)
    wanted = Wanted(
        model=str(_model(model, data)),
        store=store_folder(store),
        port=port,
        redis_url=os.environ.get("REDIS_URL", ""),
        data=str(data.resolve()) if data else "",
        ray_folder=ray_folder(),
        settings={"history": str(folder() / "history"), **_settings(settings)},
    )
    system = start(wanted, lambda text: say(f"[dim]{text} …[/]"))
    look = where(system.state)
    emit(look, as_json=as_json, summary=Panel(_places(look), title="Tidings is up", expand=False), link=look["console"])
    if detach:
        return
    end_like_ctrl_c()
    with suppress(KeyboardInterrupt):
        say("[dim]Ctrl-C stops it[/]")
        code = system.process.wait()
        fail(f"the system ended by itself with code {code}; its log is {folder() / 'supervisor.log'}", code=1)
    with step("stopping"):
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        system.stop()


def down(as_json: Json = False) -> None:
    """Stop the system of this machine, losing nothing."""
    state = running()
    if state is None:
        raise InputError(nothing_runs())
    with step("stopping"):
        stop(state.pid, lambda: has_ended(state.pid))
    emit({"stopped": state.pid}, as_json=as_json, summary="stopped")


def status(as_json: Json = False) -> None:
    """Say whether the system runs, and where to look."""
    state = running()
    if state is None:
        emit({"running": False}, as_json=as_json, summary=nothing_runs())
        raise typer.Exit(1)
    import httpx

    from tidings.ray_status import deployments

    state, wrong = with_login(state), alarms(state)
    try:
        parts = deployments(state)
    except httpx.HTTPError as error:
        parts, wrong = {}, [*wrong, f"Ray's dashboard at {state.dashboard_url} does not answer: {error}"]
    look = where(state)
    table = _places(look, parts | ({"alarm": "; ".join(wrong)} if wrong else {}))
    emit({"running": True} | look | {"deployments": parts, "alarms": wrong}, as_json=as_json, summary=table, link=look["console"])


def _places(look: dict[str, Any], more: dict[str, str] | None = None) -> Table:
    """Return where to look with the console's link left to a line of its own."""
    return facts(look | (more or {}) | {"console": "the link below opens it, once"})


def with_login(state: State) -> State:
    """Return the state with a new link to the console: the one it was started with opens it once, and for ten minutes."""
    try:
        with connect(state.store_url) as client:
            return replace(state, login=login_token(RedisApiKeys(client), RedisClock(client).now()))
    except STORE_AWAY:
        return replace(state, login="")


def alarms(state: State) -> list[str]:
    """Return what the parts of the system say is wrong now."""
    try:
        with connect(state.store_url) as client:
            return [alarm.text for alarm in RedisAlarms(client).ringing(RedisClock(client).now()).values()]
    except STORE_AWAY as error:
        return [f"the store does not answer: {error}"]


def where(state: State) -> dict[str, Any]:
    """Return where to look, by name."""
    return {
        "console": state.console_url,
        "api_docs": f"{state.api_url}/docs",
        "ray_dashboard": state.dashboard_url,
        "ray_token": str(folder() / "ray-token"),
        "store": without_password(state.store_url),
        "model": state.model,
        "process": str(state.pid),
    }


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: the settings must be one JSON object, with names as in serve_app.Settings")
    return found


def _model(model: Path | None, data: Path | None) -> Path:
    """Return the registry whose model is to serve: the one given, else this home's, after a bundle given or trained took over there."""
    from ranking.registry import Registry

    if model is not None and Registry.is_at(model):
        return _verified(Registry(model.resolve()))
    ours, trained = Registry(folder() / "models"), folder() / "model"
    if model is None and data is not None:
        _train(data, trained)
    given = model or (trained if data is not None else None)
    if given is None:
        return _verified(ours)
    with step("checking the model in a process of its own"):
        ours.install(ours.add(given), time.clock_gettime(time.CLOCK_REALTIME))
    return ours.folder


def _train(data: Path, into: Path) -> None:
    import pandas as pd

    from lake.dataset import Dataset
    from tidings.learning import train_bundle

    dataset = Dataset.load(data)
    train_bundle(dataset, dataset.events["at"].max() + pd.Timedelta(microseconds=1), into)


def _verified(registry: Registry) -> Path:
    """Return a registry whose model may serve; raises BundleError, which replicas would raise again and again."""
    from ranking import bundle as bundles

    serving = registry.standing().serving
    if not serving:
        raise InputError("no model yet: give --model, or --data to train one")
    with step("checking the model in a process of its own"):
        bundles.verify(registry.folder_of(serving))
    return registry.folder
