"""`tidings simulate`: a world with known truth, what happens to it, and how each way of keeping thresholds fares."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from lake.errors import InputError
from simulation.budgeting import BudgetingConfig
from simulation.scenarios import CONTROLLERS, SCENARIOS, Lived, PolicyName, ScenarioConfig, ScenarioName, play, play_course, whole
from tidings.budgeting import BUDGETS, budgets
from tidings.console import Json, emit, progress
from tidings.line_plot import line_plot

NameT = TypeVar("NameT", bound=str)

COURSE = "course"


def register(app: typer.Typer) -> None:
    """Add `simulate`."""
    app.command("simulate")(simulate)


def simulate(
    scenario: Annotated[
        str,
        typer.Argument(
            help=f"What happens: {', '.join(SCENARIOS)}; all, each in a world of its own; or course, in one. "
            "Or budgets: what learned ones are worth beside fixed ones."
        ),
    ],
    policy: Annotated[list[str] | None, typer.Option(help=f"How thresholds are kept: {', '.join(CONTROLLERS)}; all by default.")] = None,
    users: Annotated[
        int | None,
        typer.Option(
            min=20, help=f"How many people live in the world: {ScenarioConfig.users} by default, {BudgetingConfig.users} of budgets."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=7, help="Days to follow after what happens.")] = ScenarioConfig.days,
    seed: Annotated[int, typer.Option(min=0, help="Draws another world.")] = ScenarioConfig.seed,
    weeks: Annotated[
        int, typer.Option(min=2, help="Of budgets: weeks of random ones, and as many of each way to assign them.")
    ] = BudgetingConfig.weeks,
    explore: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Of budgets: share of the people whose budgets are random in those weeks.")
    ] = BudgetingConfig.share,
    plot: Annotated[Path | None, typer.Option(help="Where to write an SVG of the weekly sends of a course.")] = None,
    as_json: Json = False,
) -> None:
    """Play a world of people who tire and leave through the real pipeline, and compare ways to keep to a budget."""
    if scenario == BUDGETS:
        people = users or BudgetingConfig.users
        budgets(BudgetingConfig(users=people, explored=weeks, share=explore, weeks=weeks, seed=seed), as_json=as_json)
        return
    config = ScenarioConfig(users=users or ScenarioConfig.users, days=days, seed=seed)
    if scenario == COURSE:
        lives = lived_course(chosen("policy", policy, tuple(CONTROLLERS)) if policy else tuple(CONTROLLERS), config)
        if plot:
            plot.write_text(drawn(lives, config), encoding="utf-8")
        report = course_report(lives, config)
        emit(report, as_json=as_json, summary=compared(report["scenarios"]))
        return
    if plot:
        raise InputError(f"--plot draws a course, not {scenario!r}: use `tidings simulate course --plot FILE`")
    scenarios = SCENARIOS if scenario == "all" else chosen("scenario", [scenario], SCENARIOS)
    policies = chosen("policy", policy, tuple(CONTROLLERS)) if policy else tuple(CONTROLLERS)
    report = played(scenarios, policies, config)
    emit(report, as_json=as_json, summary=compared(report["scenarios"]))


def played(scenarios: tuple[ScenarioName, ...], policies: tuple[PolicyName, ...], config: ScenarioConfig) -> dict[str, Any]:
    """Return the report of all policies in all scenarios."""
    found: dict[str, dict[str, Any]] = {name: {} for name in scenarios}
    with progress() as bars:
        for scenario in scenarios:
            for policy in policies:
                task = bars.add_task(f"{scenario}: {policy}", total=config.days + (scenario != "cold-start") * config.calm_days)
                found[scenario][policy] = play(scenario, policy, config, partial(_told, bars, task)).figures()
    return {"users": config.users, "days": config.days, "seed": config.seed, "soft_budget": config.soft, "scenarios": found}


def lived_course(policies: tuple[PolicyName, ...], config: ScenarioConfig) -> dict[PolicyName, list[Lived]]:
    """Return what each policy's cohort lived through, scenario by scenario."""
    with progress() as bars:
        tasks = {name: bars.add_task(f"course: {name}", total=config.days * len(SCENARIOS)) for name in policies}
        return {name: play_course(name, config, partial(_told, bars, tasks[name])) for name in policies}


def course_report(lives: dict[PolicyName, list[Lived]], config: ScenarioConfig) -> dict[str, Any]:
    """Return the report of a course: each scenario's figures, and those of the whole under `course`."""
    found: dict[str, dict[str, Any]] = {
        scenario: {name: lived[place].figures() for name, lived in lives.items()} for place, scenario in enumerate(SCENARIOS)
    }
    found[COURSE] = {name: whole(lived) for name, lived in lives.items()}
    return {"users": config.users, "days": config.days, "seed": config.seed, "soft_budget": config.soft, "scenarios": found}


def drawn(lives: dict[PolicyName, list[Lived]], config: ScenarioConfig) -> str:
    """Return an SVG of the mean 7-day sends under each policy beside the soft budget."""
    lines: dict[str, list[float]] = {name: [week for phase in lived for week in phase.weeks] for name, lived in lives.items()}
    lines["soft budget"] = [phase.target for phase in next(iter(lives.values())) for _ in phase.weeks]
    marks = {place * config.days: name for place, name in enumerate(SCENARIOS)}
    return line_plot("mean sends of the last 7 days", lines, marks)


def _told(bars: Progress, task: TaskID, day: int) -> None:
    bars.update(task, completed=day)


def chosen(what: str, names: list[str], known: tuple[NameT, ...]) -> tuple[NameT, ...]:
    """Return the names given, in the order of the known ones; raises InputError naming an unknown one."""
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}: choose from {', '.join(known)}")
    return tuple(name for name in known if name in names)


def compared(scenarios: dict[str, dict[str, Any]]) -> Table:
    """Return the policies side by side, scenario by scenario."""
    table = Table(title="who keeps to the budget", title_justify="left", box=None, pad_edge=False)
    table.add_column("scenario")
    table.add_column("policy")
    for title in ("settled after", "overshoot", "deviation", "value", "in budget", "sends", "opt-outs"):
        table.add_column(title, justify="right")
    for scenario, policies in scenarios.items():
        for policy, row in policies.items():
            settled = "never" if row["settling_days"] is None else f"{row['settling_days']:.3g} days"
            shares = (f"{row['overshoot']:.1%}", f"{row['mean_absolute_deviation']:.1%}")
            values = (f"{row['value']:,.1f}", f"{row['value_in_budget']:,.1f}")
            table.add_row(scenario, policy, settled, *shares, *values, f"{row['sends']:,}", f"{row['opt_outs']:,}")
    return table
