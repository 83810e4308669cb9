"""`tidings models`: which model serves, which one challenges it, and the way from one to the other and back."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.table import Column, Table

from lake.dataset import Dataset
from lake.errors import InputError
from lake.history import History
from ranking import bundle as bundles
from ranking import gates, promotion
from ranking.evaluation import rounded
from ranking.gates import GateRule, Paired, Verdict
from ranking.labels import DAY_S, LabelRule
from ranking.registry import Registry, RegistryError
from tidings.console import Json, emit, facts, step
from tidings.home import folder, history_url, running

RegistryOption = Annotated[Path | None, typer.Option("--registry", help="The registry's folder; by default that of `tidings up`.")]
ModelArgument = Annotated[str, typer.Argument(help="A model's id, or how it begins.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Compare on tables that go on after both models' training, not on live traffic.")
]
HistoryOption = Annotated[str | None, typer.Option("--history", help="Where live traffic is kept; by default that of `tidings up`.")]
WindowOption = Annotated[float, typer.Option(min=0.01, help="How soon an engagement must come to count.")]
WINDOW_DAYS = 2.0


def register(app: typer.Typer) -> None:
    """Add `models` and its commands."""
    group = typer.Typer(no_args_is_help=True, help="Which model serves, which one challenges it, and the way from one to the other.")
    group.command("list")(list_models)
    group.command("add")(add)
    group.command("challenge")(challenge)
    group.command("compare")(compare)
    group.command("promote")(promote)
    group.command("rollback")(rollback)
    app.add_typer(group, name="models")


def registry_of(given: Path | None) -> Registry:
    """Return the registry to talk about."""
    return Registry(given if given is not None else folder() / "models")


def list_models(registry: RegistryOption = None, as_json: Json = False) -> None:
    """List the models, the latest first, and what each one does."""
    held = registry_of(registry)
    entries = held.entries()
    table = Table(Column("model", no_wrap=True), "role", "made", "trained until", "NDCG@5 on its last weeks", box=None)
    for entry in entries:
        ndcg = entry.metrics.get("validation", {}).get("ndcg_at_5")
        made, until = (f"{pd.Timestamp(at, unit='s', tz='UTC'):%Y-%m-%d %H:%M}" for at in (entry.created_at, entry.until))
        table.add_row(entry.model_id, entry.role, made, until, "" if ndcg is None else f"{ndcg:.4f}")
    report = {"registry": str(held.folder), **asdict(held.standing()), "models": [asdict(entry) for entry in entries]}
    emit(report, as_json=as_json, summary=table if entries else _none_yet())


def _none_yet() -> str:
    state = running()
    if state is not None and not Registry.is_at(Path(state.model)):
        return f"no models here: what runs serves the folder {state.model} and keeps no registry, as `tidings up` does"
    return "no models yet: `tidings models add FOLDER` brings one in"


def add(
    bundle: Annotated[Path, typer.Argument(help="A model folder, as `tidings train` writes it.")],
    challenging: Annotated[bool, typer.Option("--challenge", help="Score live traffic with it beside the one that serves.")] = False,
    registry: RegistryOption = None,
    as_json: Json = False,
) -> None:
    """Bring a trained model in; it serves nobody until it is promoted."""
    held = registry_of(registry)
    with step("checking the model in a process of its own"):
        model_id = held.add(bundle)
    if challenging:
        held.challenge(model_id, _now())
    emit({"model_id": model_id, "challenges": challenging}, as_json=as_json)


def challenge(
    model: Annotated[str, typer.Argument(help="A model's id, how it begins, or `none` to end it.")],
    registry: RegistryOption = None,
    as_json: Json = False,
) -> None:
    """Score a share of live traffic with a model beside the one that serves; nobody is sent anything because of it."""
    held = registry_of(registry)
    standing = held.challenge("" if model == "none" else held.named(model), _now())
    names = {role: getattr(standing, role) or "none" for role in ("serving", "challenger", "previous")}
    emit(asdict(standing), as_json=as_json, summary=facts(names))


def compare(
    model: ModelArgument,
    data: DataOption = None,
    history: HistoryOption = None,
    window_days: WindowOption = WINDOW_DAYS,
    registry: RegistryOption = None,
    as_json: Json = False,
) -> None:
    """Say how far apart a model and the one that serves are, on the same rows, and what each gate says."""
    held = registry_of(registry)
    model_id = held.named(model)
    rows = _rows(held, model_id, data, history, window_days)
    verdicts = _verdicts(held, model_id, rows)
    report = {"serving": held.standing().serving, "challenger": model_id} | rounded(gates.compared(rows))
    emit(report | _reported(verdicts), as_json=as_json, summary=facts(report | {verdict.gate: verdict.why for verdict in verdicts}))


def promote(
    model: ModelArgument,
    data: DataOption = None,
    history: HistoryOption = None,
    window_days: WindowOption = WINDOW_DAYS,
    most_psi: Annotated[float, typer.Option(min=0, help="How far the distribution of scores may shift.")] = GateRule().most_psi,
    tolerance: Annotated[float, typer.Option(min=0, help="How much NDCG@5 it may lose.")] = GateRule().tolerance,
    registry: RegistryOption = None,
    as_json: Json = False,
) -> None:
    """Let a model serve, if every gate passes it; running rankers change within seconds and drop nothing."""
    held = registry_of(registry)
    model_id = held.named(model)
    if held.standing().serving == model_id:
        raise InputError(f"{model_id} serves already")
    rows = _rows(held, model_id, data, history, window_days)
    verdicts = _verdicts(held, model_id, rows, GateRule(most_psi=most_psi, tolerance=tolerance))
    before = held.standing().serving
    try:
        held.promote(model_id, verdicts, _now())
    except RegistryError as error:
        raise InputError(f"{error}. {_advice(verdicts, model_id, on_tables=data is not None)}") from error
    report = {"serving": model_id, "before": before}
    emit(report | _reported(verdicts), as_json=as_json, summary=facts(report | {verdict.gate: verdict.why for verdict in verdicts}))


def rollback(registry: RegistryOption = None, as_json: Json = False) -> None:
    """Let the model serve again that served before."""
    held = registry_of(registry)
    before = held.standing().serving
    standing = held.rollback(_now())
    emit({"serving": standing.serving, "before": before}, as_json=as_json)


def _rows(held: Registry, model_id: str, data: Path | None, history: str | None, window_days: float) -> Paired:
    serving, rule = held.standing().serving, LabelRule(window_s=window_days * DAY_S)
    if not serving:
        raise InputError(f"no model of {held.folder} serves yet; `tidings up --model` starts with one")
    if data is None:
        return promotion.of_history(History(history_url(history)), serving, model_id, _now(), rule)
    with step("scoring what neither model was trained on"):
        models = [bundles.load(held.folder_of(name), threads=0) for name in (serving, model_id)]
        return promotion.of_dataset(Dataset.load(data), models[0], models[1], rule)


def _verdicts(held: Registry, model_id: str, rows: Paired, rule: GateRule | None = None) -> list[Verdict]:
    return promotion.verdicts(held.folder_of(held.standing().serving), held.folder_of(model_id), rows, rule)


def _advice(verdicts: list[Verdict], model_id: str, *, on_tables: bool) -> str:
    """Return what may help a model past the gates that it failed."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if any(verdict.figure is None for verdict in failed if verdict.gate != "schema"):
        longer = "give --data tables that go on for longer after both trainings"
        live = (
            f"let it challenge for longer (`tidings models challenge {model_id}`), or give tables that go on after both trainings, --data"
        )
        return f"There is too little to tell: {longer if on_tables else live}"
    drift = next((verdict for verdict in failed if verdict.gate == "drift"), None)
    if drift is not None and drift.figure is not None:
        most = math.ceil(drift.figure * 10) / 10
        return f"`tidings models compare` tells how its scores differ; where that is as it should be, allow it with --most-psi {most:g}"
    return "`tidings models compare` tells more"


def _reported(verdicts: list[Verdict]) -> dict[str, Any]:
    return {"passed": all(verdict.passed for verdict in verdicts), "gates": [asdict(verdict) for verdict in verdicts]}


def _now() -> float:
    """Return the time: a change of models has no other clock, the store may be away."""
    return time.clock_gettime(time.CLOCK_REALTIME)
