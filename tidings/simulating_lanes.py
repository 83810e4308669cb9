"""`tidings simulate lanes`: telling at once, in windows, or by both lanes, at equal volume."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from simulation.two_lanes import SPOKEN, LanesWorld, over_worlds
from tidings.console import Json, emit, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("lanes")(lanes)


def lanes(
    users: Annotated[int, typer.Option(min=20, help="How many people there are.")] = LanesWorld.users,
    weeks: Annotated[int, typer.Option(min=1, help="How many weeks.")] = LanesWorld.weeks,
    per_week: Annotated[float, typer.Option(min=0.1, help="Mean sends of a user and week, of each way alike.")] = LanesWorld.per_week,
    seed: Annotated[int, typer.Option(min=0, help="Draws another world; that of the first one.")] = LanesWorld.seed,
    worlds: Annotated[int, typer.Option(min=1, help="In how many worlds.")] = 5,
    as_json: Json = False,
) -> None:
    """Compare telling at once, in windows only, and by the rule that serves, at equal volume."""
    with step(f"telling {worlds} worlds four ways"):
        found = over_worlds(LanesWorld(users=users, weeks=weeks, per_week=per_week, seed=seed), worlds)
    table = Table(title="what as many sends are worth", title_justify="left", box=None, pad_edge=False)
    table.add_column("lanes")
    for title in ("sends", "answers", "per send", "delay, h", "sent at once", "both are worth more"):
        table.add_column(title, justify="right")
    for name, row in found["ways"].items():
        wins = f"in {found['both_wins'][name]} of {worlds}" if name in found["both_wins"] else ""
        figures = (f"{row['sends']:,}", f"{row['answers']:,}", f"{row['per_send']:.4f}", f"{row['delay_h']}", f"{row['at_once']:,}")
        table.add_row(SPOKEN[name], *figures, wins)
    table.caption = (
        f"both lanes beside the better of the single ones: {found['both_beside_best_single']:.3f} on average, "
        f"{found['least_beside_best_single']:.3f} in the worst world"
    )
    emit(found, as_json=as_json, summary=table)
