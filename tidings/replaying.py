"""`tidings replay` and `tidings demo`: history through the real pipeline, and what it was worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import pandas as pd
import typer
from rich.console import Group
from rich.table import Table

from lake.dataset import Dataset
from lake.errors import InputError
from ranking.bundle import Bundle
from ranking.bundle import load as load_bundle
from simulation.policies import COMPARED, POLICIES, PolicyName
from simulation.replay import ReplayConfig, replay
from simulation.urgent_replay import Posted
from tidings.console import Json, emit, progress, step
from tidings.demo import demo
from tidings.learning import DataOption, instant, train_bundle

URGENT_HELP = (
    "Post new items to the urgent lane, too, each at its own time, to those who follow a topic or the author of it, or nothing at all: "
    "all, a share such as 0.1, kind:NAME or topic:NAME; the last two may be repeated."
)


def register(app: typer.Typer) -> None:
    """Add `replay` and `demo`."""
    app.command("replay")(replay_command)
    app.command("demo")(demo)


def replay_command(
    data: DataOption,
    since: Annotated[str, typer.Option("--from", help="The first moment to replay, such as 2016-10-03T00:00:00Z.")],
    until: Annotated[str, typer.Option("--to", help="The moment to stop before.")],
    out: Annotated[Path, typer.Option(help="The folder to write decisions.parquet and report.json into.")],
    policy: Annotated[list[str] | None, typer.Option(help=f"What to compare: {', '.join(POLICIES)}; the first four by default.")] = None,
    budget: Annotated[int, typer.Option(min=0, max=254, help="Sends per user and rolling 7 days.")] = 3,
    channel: Annotated[str, typer.Option(help="The channel to send on.")] = "in_app",
    horizon: Annotated[int, typer.Option(min=1, help="Days after a send within which an engagement counts for it.")] = 14,
    model: Annotated[Path | None, typer.Option(help="The model folder, for the policy `ranked`; else one is trained.")] = None,
    urgent: Annotated[list[str] | None, typer.Option(help=URGENT_HELP)] = None,
    as_json: Json = False,
) -> None:
    """Play history through the pipeline and compare policies at equal volume."""
    start, end = instant(since), instant(until)
    if start >= end:
        raise InputError(f"--from {start.isoformat()} must be before --to {end.isoformat()}")
    policies = checked(policy)
    history = Dataset.load(data)
    last = history.events["at"].max()
    if not start <= last:
        raise InputError(f"--from {start.isoformat()} is after the last event, which was at {last.isoformat()}: there is nothing to replay")
    config = ReplayConfig(
        start.timestamp(),
        end.timestamp(),
        policies,
        budget=budget,
        channel=channel,
        horizon_days=horizon,
        urgent=posted(urgent, history.items, start, end),
    )
    bundle = bundle_for(data, start, model, out) if "ranked" in policies else None
    with progress() as bars:
        tasks = {name: bars.add_task(f"replaying {name}", total=(end - start).total_seconds() / 86400) for name in policies}

        def told(name: PolicyName, at: float) -> None:
            bars.update(tasks[name], completed=(at - config.since) / 86400)

        replayed = replay(history, bundle, config, told)
    out.mkdir(parents=True, exist_ok=True)
    replayed.decisions.to_parquet(out / "decisions.parquet", index=False)
    (out / "report.json").write_bytes(orjson.dumps(replayed.report, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    lanes = [by_lane(replayed.report)] if urgent else []
    emit(replayed.report | {"out": str(out)}, as_json=as_json, summary=Group(compared(replayed.report, horizon), *lanes))


def checked(names: list[str] | None) -> tuple[PolicyName, ...]:
    """Return policies by name, the usual four where none is named; raises InputError naming an unknown one."""
    for name in names or []:
        if name not in POLICIES:
            raise InputError(f"unknown policy {name!r}: choose from {', '.join(POLICIES)}")
    return tuple(name for name in POLICIES if name in names) if names else COMPARED


def posted(words: list[str] | None, items: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> Posted | None:
    """Return what the urgent lane is posted, None where nothing is asked for; raises InputError for what means nothing here."""
    if not words:
        return None
    try:
        found = Posted.of(words)
    except ValueError as error:
        raise InputError(f"--urgent: {error}") from error
    made = items[(items["created_at"] >= start) & (items["created_at"] < end)]
    if not found.among(made).any():
        raise InputError(f"--urgent {' '.join(words)}: none of the {len(made):,} items made between --from and --to is meant by that")
    return found


def by_lane(report: dict[str, Any]) -> Table:
    """Return each policy's lanes side by side."""
    table = Table(title="what each lane's sends were worth", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy, lane")
    for title in ("sends", "in 48 h", "engaged", "per send", "delay, h", "of nine in ten"):
        table.add_column(title, justify="right")
    for policy, row in report["policies"].items():
        for lane, each in row["lanes"].items():
            delays = (f"{each[name]:,.2f}" if each[name] is not None else "" for name in ("delay_h_median", "delay_h_p90"))
            counts = (f"{each[name]:,}" for name in ("sends", "engaged_48h", "engaged_in_horizon"))
            table.add_row(f"{policy}, {lane}", *counts, f"{each['engaged_per_send']:.4f}", *delays)
    held = (f"{policy} {row['urgent']['held_sent']:,} of {row['urgent']['held']:,}" for policy, row in report["policies"].items())
    table.caption = f"held by the urgent lane and told in a later window: {', '.join(held)}"
    return table


def bundle_for(data: Path, start: pd.Timestamp, model: Path | None, out: Path) -> Bundle:
    """Return the model to rank with: the one given, else one trained on what happened before the replay."""
    if model is None:
        model = out / "model"
        train_bundle(Dataset.load(data, start), start, model)
    with step("checking the model in a process of its own"):
        return load_bundle(model)


def compared(report: dict[str, Any], horizon: int) -> Table:
    """Return the policies side by side; `horizon`: days within which an engagement counts."""
    beside = report["ranked_beside"]
    policies = {name: row | {"ranked_beside": beside.get(name)} for name, row in report["policies"].items()}
    table = Table(title="what each policy's sends were worth", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    columns = {  # broken by hand, so that all of them fit into a terminal of 80
        "sends": "sends",
        "engaged_48h": "in\n48 h",
        "engaged_7d": "in\n7 d",
        "engaged_in_horizon": "engaged",
        "engaged_per_send": "per\nsend",
        "sends_per_user": "per\nuser",
        "budget_use": "budget\nused",
        "overspent": "over\nbudget",
        "ranked_beside": "ranked\nbeside",
        "cut_of_random": "cut of\nrandom",
    }
    table.add_column("policy", no_wrap=True)
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, row in policies.items():
        shown = row if row["known_sends"] else row | {"engaged_per_send": None}
        table.add_row(name, *(_figure(key, shown.get(key)) for key in columns))
    table.caption = not_yet_known(report["policies"], horizon)
    return table


def not_yet_known(policies: dict[str, dict[str, Any]], horizon: int) -> str | None:
    """Return what is to know of the sends whose `horizon` (days) goes beyond the last event, None where there are none."""
    sends, known = (sum(row[name] for row in policies.values()) for name in ("sends", "known_sends"))
    if sends == known:
        return None
    return (
        f"per send, ranked beside: of the {known:,} of {sends:,} sends after which {horizon} days of events are known; "
        "replay earlier days, or judge sooner with --horizon"
    )


def _figure(key: str, value: Any) -> str:
    if key == "cut_of_random":
        return f"{value['cut']:.0%}" if value and value["cut"] is not None else ""
    if key == "ranked_beside":
        return f"{value['ratio']:.2f} x" if value and value["ratio"] is not None else ""
    if key == "budget_use":
        return f"{value:.0%}"
    if key == "engaged_per_send":
        return "" if value is None else f"{value:.4f}"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
