"""`tidings simulate`: a world with known truth, what happens to it, and how each way of keeping thresholds or choosing sends fares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from lake.errors import InputError
from simulation.scenarios import CONTROLLERS, SCENARIOS, Lived, PolicyName, ScenarioConfig, ScenarioName, play, play_course, whole
from tidings import simulating_budgets, simulating_lanes, simulating_pacing, simulating_policies
from tidings.console import Json, emit, progress
from tidings.line_plot import line_plot

NameT = TypeVar("NameT", bound=str)

COURSE = "course"

Policies = Annotated[list[str] | None, typer.Option("--policy", help=f"How thresholds are kept: {', '.join(CONTROLLERS)}; all by default.")]
Users = Annotated[int, typer.Option(min=20, help="How many people live in the world.")]
Days = Annotated[int, typer.Option(min=7, help="Days to follow after what happens.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws another world.")]
HAPPENS: dict[ScenarioName, str] = {
    "cold-start": "Begin with nobody known, and keep to a budget.",
    "budget-halved": "Halve the budget.",
    "budget-doubled": "Double the budget.",
    "score-drift": "Let all scores rise at once.",
    "outage": "Lose three days of candidates.",
    "topic-boom": "Let one topic be on everybody's mind for a week.",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Play a world with known truth through the real pipeline.")
    for scenario in SCENARIOS:
        group.command(scenario, help=HAPPENS[scenario])(playing(scenario))
    group.command("all", help="Each of these in a world of its own.")(playing("all"))
    group.command(COURSE)(course)
    simulating_pacing.register(group)
    simulating_budgets.register(group)
    simulating_lanes.register(group)
    simulating_policies.register(group)
    app.add_typer(group, name="simulate")


def playing(scenario: str) -> Callable[..., None]:
    """Return the command that plays one scenario, or all."""

    def happen(
        policy: Policies = None,
        users: Users = ScenarioConfig.users,
        days: Days = ScenarioConfig.days,
        seed: Seed = ScenarioConfig.seed,
        as_json: Json = False,
    ) -> None:
        scenarios = SCENARIOS if scenario == "all" else chosen("scenario", [scenario], SCENARIOS)
        report = played(scenarios, kept_by(policy), ScenarioConfig(users=users, days=days, seed=seed))
        emit(report, as_json=as_json, summary=compared(report["scenarios"]))

    return happen


def course(
    policy: Policies = None,
    users: Users = ScenarioConfig.users,
    days: Days = ScenarioConfig.days,
    seed: Seed = ScenarioConfig.seed,
    plot: Annotated[Path | None, typer.Option(help="Where to write an SVG of the weekly sends.")] = None,
    as_json: Json = False,
) -> None:
    """Lead one world through all of these, one after the other."""
    config = ScenarioConfig(users=users, days=days, seed=seed)
    lives = lived_course(kept_by(policy), config)
    if plot:
        plot.write_text(drawn(lives, config), encoding="utf-8")
    report = course_report(lives, config)
    emit(report, as_json=as_json, summary=compared(report["scenarios"]))


def kept_by(policy: list[str] | None) -> tuple[PolicyName, ...]:
    """Return the policies that were asked for, all of them where none was."""
    return chosen("policy", policy, tuple(CONTROLLERS)) if policy else tuple(CONTROLLERS)


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
    table = Table(title="who keeps to the budget", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scenario", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for title in ("settled\nafter", "overshoot", "deviation", "value", "in\nbudget", "sends", "opt-\nouts"):
        table.add_column(title, justify="right")
    for scenario, policies in scenarios.items():
        for policy, row in policies.items():
            settled = "never" if row["settling_days"] is None else f"{row['settling_days']:.3g} days"
            shares = (f"{row['overshoot']:.1%}", f"{row['mean_absolute_deviation']:.1%}")
            values = (f"{row['value']:,.1f}", f"{row['value_in_budget']:,.1f}")
            table.add_row(scenario, policy, settled, *shares, *values, f"{row['sends']:,}", f"{row['opt_outs']:,}")
    return table
