"""`tidings simulate lanes`: telling at once, in windows, or by both lanes, at equal volume."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from simulation.two_lanes import LanesWorld, report
from tidings.console import Json, emit, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("lanes")(lanes)


def lanes(
    users: Annotated[int, typer.Option(min=20, help="How many people there are.")] = LanesWorld.users,
    weeks: Annotated[int, typer.Option(min=1, help="How many weeks.")] = LanesWorld.weeks,
    per_week: Annotated[float, typer.Option(min=0.1, help="Mean sends of a user and week, of each way alike.")] = LanesWorld.per_week,
    seed: Annotated[int, typer.Option(min=0, help="Draws another world.")] = LanesWorld.seed,
    as_json: Json = False,
) -> None:
    """Compare telling at once, in windows only, and by the rule that serves, at equal volume."""
    with step("telling the same world three ways"):
        found = report(LanesWorld(users=users, weeks=weeks, per_week=per_week, seed=seed))
    table = Table(title="what as many sends are worth", title_justify="left", box=None, pad_edge=False)
    table.add_column("lanes")
    for title in ("sends", "answers", "per send", "median delay, h", "sent at once"):
        table.add_column(title, justify="right")
    for name, row in found["ways"].items():
        at_once = row["lanes"]["urgent"]["sends"]
        table.add_row(
            name, f"{row['sends']:,}", f"{row['answers']:,}", f"{row['per_send']:.4f}", f"{row['delay_h_median']}", f"{at_once:,}"
        )
    emit(found, as_json=as_json, summary=table)
