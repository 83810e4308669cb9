"""`tidings simulate pacing`: when to spend a week's budget, beside knowing the whole week in advance."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from budgets.approach import PERIOD_DAYS
from simulation.pacing import PacingWorld
from simulation.pacing_pipeline import POLICIES, played
from simulation.pacing_report import report
from tidings.console import Json, emit, progress, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("pacing")(pacing)


def pacing(
    users: Annotated[int, typer.Option(min=20, help="How many people there are.")] = PacingWorld.users,
    days: Annotated[int, typer.Option(min=7, help="How many days, in whole weeks.")] = 7 * PacingWorld.weeks,
    seed: Annotated[int, typer.Option(min=0, help="Draws other candidates.")] = PacingWorld.seed,
    pipeline: Annotated[bool, typer.Option("--pipeline", help="Have the real pipeline decide and its daily job keep thresholds.")] = False,
    as_json: Json = False,
) -> None:
    """Compare when to spend a week's budget with knowing all of the week's candidates in advance."""
    config = PacingWorld(users=users, weeks=-(-days // 7), seed=seed)
    if pipeline:
        _through_pipeline(config, as_json=as_json)
        return
    with step("playing weeks of candidates"):
        found = report(config)
    table = Table(title="of the value of knowing the whole week", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy")
    for title in ("share", "of perfect scores", "sends"):
        table.add_column(title, justify="right")
    bounds = {f"knowing the days, {name} weeks": row for name, row in found["bounds"].items()}
    for name, row in {**found["policies"], **bounds}.items():
        table.add_row(name, f"{row['of_hindsight']:.1%}", f"{row['of_perfect']:.1%}", f"{row['sends']:,}")
    emit(found, as_json=as_json, summary=table)


def _through_pipeline(config: PacingWorld, *, as_json: bool) -> None:
    policies: dict[str, dict[str, float]] = {}
    with progress() as bars:
        for policy in POLICIES:
            task = bars.add_task(policy, total=(config.calm_weeks + config.weeks) * PERIOD_DAYS)
            lived = played(policy, config, partial(_told, bars, task))
            value, sends = lived.earned.value, lived.earned.sends
            policies[policy] = {"value": value, "sends": sends, "hindsight": lived.hindsight, "of_hindsight": value / lived.hindsight}
    table = Table(title="of the value of knowing the whole week, through the pipeline", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy")
    for title in ("share", "sends"):
        table.add_column(title, justify="right")
    for name, row in policies.items():
        table.add_row(name, f"{row['of_hindsight']:.1%}", f"{row['sends']:,.0f}")
    emit({**asdict(config), "policies": policies}, as_json=as_json, summary=table)


def _told(bars: Progress, task: TaskID, day: int) -> None:
    bars.update(task, completed=day)
