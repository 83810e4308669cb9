"""`tidings simulate budgets`: what budgets that are learned are worth beside every fixed one of a world with known truth."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.progress import Progress, TaskID
from rich.table import Table

from simulation.budgeting import BudgetingConfig, compare
from tidings.console import Json, emit, progress


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("budgets")(budgets)


def budgets(
    users: Annotated[int, typer.Option(min=20, help="How many people live in the world.")] = BudgetingConfig.users,
    weeks: Annotated[int, typer.Option(min=2, help="Weeks of random budgets, and as many of each way.")] = BudgetingConfig.weeks,
    seed: Annotated[int, typer.Option(min=0, help="Draws another world.")] = BudgetingConfig.seed,
    explore: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the people whose budget is drawn.")] = BudgetingConfig.share,
    as_json: Json = False,
) -> None:
    """Learn how many sends a week suit each person, and live by it beside every fixed number."""
    config = BudgetingConfig(users=users, explored=weeks, share=explore, weeks=weeks, seed=seed)
    arms = config.learned.most + 1 + len(config.means)
    with progress() as bars:
        task = bars.add_task("random", total=config.explored + arms * config.weeks)
        report = compare(config, partial(_told, bars, task))
    emit(report, as_json=as_json, summary=Group(*_summary(report)))


def _told(bars: Progress, task: TaskID, arm: str, _week: int) -> None:
    bars.update(task, description=arm, advance=1)


def _summary(report: dict[str, Any]) -> list[Table | str]:
    """Return the arms side by side."""
    groups = list(report["groups"])
    table = Table(title="engagement under budgets", title_justify="left", box=None, pad_edge=False)
    table.add_column("budgets")
    for title in (
        "assigned",
        "sends",
        "engagements",
        "opt-outs",
        "net",
        "ahead of fixed",
        *(f"for {name.replace('_', ' ')}" for name in groups),
    ):
        table.add_column(title, justify="right")
    for name, arm in report["arms"].items():
        totals = [f"{arm[column]:,}" for column in ("assigned", "sends", "engagements", "opt_outs")]
        ahead = f"{arm['ahead']:+.3f} ({arm['ahead_95'][0]:+.3f} to {arm['ahead_95'][1]:+.3f})" if "ahead" in arm else ""
        table.add_row(name, *totals, f"{arm['net']:,.0f}", ahead, *(f"{arm['mean_budget'][group]:.2f}" for group in groups))
    cost = f"{report['cost']:.1f} an opt-out, what notifications bring the mean reader in {report['lost_weeks']:g} weeks"
    return [table, f"net: engagements less {cost}; ahead: of the same fixed budget, a user and week"]
