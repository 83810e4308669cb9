"""`tidings evaluate`: what a policy or a treatment is worth, from what was logged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from lake.errors import InputError
from ranking.policy_value import WEIGHT_TOLERANCE, Estimate, Support, evaluate, support
from tidings.console import Json, emit, facts, say, step
from tidings.evaluating_uplift import uplift
from tidings.policy_tables import Tables, read_tables

NAMES = {
    "ips": "IPS",
    "snips": "self-normalised IPS",
    "dr": "doubly robust",
    "sndr": "self-normalised DR",
}
FEW_EFFECTIVE = 100


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Estimate from logs what a policy or a treatment is worth.")
    group.command("policy")(policy)
    group.command("uplift")(uplift)
    app.add_typer(group, name="evaluate")


def policy(
    logged: Annotated[Path, typer.Option(help="A table with item_id, propensity, reward (or click, or engaged_at), position?, user_id?.")],
    target: Annotated[Path, typer.Option(help="A table with item_id, probability and position?, summing to 1 per position.")],
    clip: Annotated[float | None, typer.Option(min=1, help="The most one row may weigh; less variance, some bias.")] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="How often the intervals are to hold the true value.")] = 0.95,
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Resamples for the bootstrap intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resamples and of the reward model's folds.")] = 0,
    as_json: Json = False,
) -> None:
    """Estimate what another policy would have brought per row, from what a logging policy chose with known propensities."""
    started = time.perf_counter()
    with step(f"reading {logged.name} and {target.name}"):
        tables = read_tables(logged, target, seed=seed)
    checks = support(tables.logged, clip)
    if checks.effective_rows == 0:
        raise InputError(f"{target}: gives probability to nothing that {logged} chose; its item_id values are not those of the log")
    with step(f"drawing {draws:,} resamples of {checks.rows:,} rows"):
        found = evaluate(tables.logged, clip=clip, level=level, draws=draws, seed=seed)
    warnings = doubts(tables, checks)
    report = policy_report(tables, checks, found) | {"clip": clip, "level": level, "draws": draws, "seed": seed}
    report |= {"warnings": warnings, "seconds": round(time.perf_counter() - started, 2)}
    for warning in warnings:
        say(f"[bold yellow]warning:[/] {warning}")
    emit(report, as_json=as_json, summary=policy_summary(report, found))


def policy_report(tables: Tables, checks: Support, found: dict[str, Estimate]) -> dict[str, Any]:
    """Return the report of an evaluation, without how it was asked for."""
    return {
        "rows": checks.rows,
        "logged_value": float(tables.logged.reward.mean()),
        "mean_weight": checks.mean_weight,
        "mean_weight_standard_error": checks.mean_weight_error,
        "mean_weight_ok": checks.sound,
        "most_weight": checks.most_weight,
        "effective_sample_size": checks.effective_rows,
        "clipped_share": checks.clipped,
        "unseen_share": tables.unseen,
        "target_sums": {"all" if at is None else str(at): total for at, total in tables.sums.items()},
        "estimates": {
            name: {
                "value": estimate.value,
                "standard_error": estimate.standard_error,
                "asymptotic": list(estimate.asymptotic),
                "bootstrap": list(estimate.bootstrap),
            }
            for name, estimate in found.items()
        },
    }


def doubts(tables: Tables, checks: Support) -> list[str]:
    """Return what speaks against believing the estimates, each a sentence with what to do."""
    found = []
    if not checks.sound:
        found.append(f"the mean weight is {checks.mean_weight:.3f} and must be 1 within {WEIGHT_TOLERANCE}: {_why(tables, checks)}")
    elif not tables.is_distribution:
        found.append(f"the target's probabilities sum to {max(tables.sums.values()):.3f} at a position, not to 1; {FREQUENCIES}")
    if not tables.logged.reward.any():
        found.append("no row has a reward, so every policy is worth 0: give what came of each row as reward, click or engaged_at")
    if checks.effective_rows < FEW_EFFECTIVE:
        found.append(
            f"the log says no more of this target than {checks.effective_rows:.0f} of its own rows would: intervals may be too narrow"
        )
    return found


FREQUENCIES = (
    "take how often the policy chooses each item (its rows with the item over all its rows, per position), not logged propensities"
)


def _why(tables: Tables, checks: Support) -> str:
    if not tables.is_distribution:
        low, high = min(tables.sums.values()), max(tables.sums.values())
        sums = f"{high:.3f}" if high - low < 0.01 else f"{low:.3f} to {high:.3f}"
        return f"the target's probabilities sum to {sums} per position, so these estimates are of no policy; {FREQUENCIES}"
    if tables.unseen > WEIGHT_TOLERANCE:
        return (
            f"{tables.unseen:.1%} of the target's choices are items that were never logged at their position; log them, or leave them out"
        )
    if abs(checks.mean_weight - 1) < 2 * checks.mean_weight_error:
        return "chance alone could do that with so few effective rows; log more, or prefer the self-normalised estimates"
    return "the propensities are not those the rows were chosen with; log each row's own at the moment it is chosen"


def policy_summary(report: dict[str, Any], found: dict[str, Estimate]) -> RenderableType:
    """Return the report as a table of estimates over the facts of the log."""
    table = Table(box=None, pad_edge=False)
    table.add_column("value per row", style="dim")
    for name in ("estimate", "error", f"{report['level']:.0%} asymptotic", f"{report['level']:.0%} bootstrap"):
        table.add_column(name, justify="right")
    for name, estimate in found.items():
        intervals = (f"{low:.5f} .. {high:.5f}" for low, high in (estimate.asymptotic, estimate.bootstrap))
        table.add_row(NAMES[name], f"{estimate.value:.5f}", f"{estimate.standard_error:.5f}", *intervals)
    shown = ("rows", "logged_value", "mean_weight", "most_weight", "effective_sample_size", "clipped_share", "unseen_share")
    return Group(table, "", facts({name: report[name] for name in shown}))
