"""`tidings simulate pacing`: when to spend a week's budget, beside knowing the whole week in advance."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from simulation.pacing import PacingWorld
from simulation.pacing_report import report
from tidings.console import Json, emit, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("pacing")(pacing)


def pacing(
    users: Annotated[int, typer.Option(min=20, help="How many people there are.")] = PacingWorld.users,
    days: Annotated[int, typer.Option(min=7, help="How many days, in whole weeks.")] = 7 * PacingWorld.weeks,
    seed: Annotated[int, typer.Option(min=0, help="Draws other candidates.")] = PacingWorld.seed,
    as_json: Json = False,
) -> None:
    """Compare when to spend a week's budget with knowing all of the week's candidates in advance."""
    with step("playing weeks of candidates"):
        found = report(PacingWorld(users=users, weeks=-(-days // 7), seed=seed))
    table = Table(title="of the value of knowing the whole week", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy")
    for title in ("share", "of perfect scores", "sends"):
        table.add_column(title, justify="right")
    bounds = {f"knowing the days, {name} weeks": row for name, row in found["bounds"].items()}
    for name, row in {**found["policies"], **bounds}.items():
        table.add_row(name, f"{row['of_hindsight']:.1%}", f"{row['of_perfect']:.1%}", f"{row['sends']:,}")
    emit(found, as_json=as_json, summary=table)
