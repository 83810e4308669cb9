"""`tidings evaluate uplift`: who gains by being told, learned from a table of randomised sends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from rich.console import Group, RenderableType
from rich.table import Table

from lake.errors import InputError, TableError
from lake.table_files import Expected, format_of, read_file
from ranking.uplift import BALANCE_P, METHODS, Bools, Floats, Matrix, Qini, Trial, UpliftRule, gives_away, imbalance, qini
from ranking.uplift import uplift as learned
from tidings.console import Json, emit, facts, progress, say
from tidings.learning import WRITERS, write_table

CONTROL_NAMES = ("control", "none", "0", "false", "no", "no e-mail", "no email", "holdout")
MOST_LEVELS = 50
"""A column of more different texts than this is an identifier or free text, and is left out."""
LEAST_ROWS = 200


def uplift(
    data: Annotated[Path, typer.Option(help="A table with a row per person: what was known before, the treatment, the outcome.")],
    outcome: Annotated[str, typer.Option(help="The column with what came of it: 0 or 1, or an amount.")],
    treatment: Annotated[str, typer.Option(help="The column with what each person was randomly given.")] = "treatment",
    control: Annotated[str | None, typer.Option(help="Its value for those who were given nothing; found where it is a usual name.")] = None,
    treated: Annotated[list[str] | None, typer.Option(help="Its values to compare with the control; all others by default.")] = None,
    features: Annotated[str | None, typer.Option(help="What was known before, as a,b,c; by default all that looks like it.")] = None,
    method: Annotated[str, typer.Option(help=f"How it is learned: {' or '.join(METHODS)}.")] = "two_model",
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Resamples for the intervals.")] = 500,
    seed: Annotated[int, typer.Option(help="Of folds, trees and resamples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A table to write: the rows with their uplift.")] = None,
    as_json: Json = False,
) -> None:
    """Learn who gains by being sent something, from randomised sends, and say how much better that is than sending at random."""
    started = time.perf_counter()
    chosen = next((name for name in METHODS if name == method), None)
    if chosen is None:
        raise InputError(f"--method {method!r} is not known: choose {' or '.join(METHODS)}")
    if out is not None and (format_of(out) is None or out.suffix not in WRITERS):
        raise InputError(f"{out}: name a file to write that ends in {', '.join(WRITERS)}")
    table = read_file(data, Expected(frozenset())).to_pandas()
    rows, arms = randomised(table, data, outcome, treatment, control, treated)
    trial, names, left_out = trial_of(rows, arms, data, outcome, treatment, features)
    with progress() as bars:
        task = bars.add_task("learning", total=5)
        score = learned(trial, UpliftRule(method=chosen, seed=seed), lambda done: bars.update(task, completed=done))
    found = qini(trial, score, draws=draws, seed=seed)
    if out is not None:
        write_table(rows.assign(uplift=score), out)
    report = uplift_report(trial, score, found) | {"outcome": outcome, "method": chosen, "control": arms.control, "treated": arms.treated}
    report |= {"features": names, "left_out": left_out, "out": None if out is None else str(out)}
    report |= {"by_treatment": by_treatment(rows, trial, score, treatment, arms, draws, seed)}
    for name, why in left_out.items():
        say(f"[bold yellow]left out:[/] {name}, {why}")
    emit(report | {"seconds": round(time.perf_counter() - started, 2)}, as_json=as_json, summary=uplift_summary(report))


@dataclass(frozen=True)
class Arms:
    """The values of the treatment column: that of the control, and those compared with it."""

    control: str
    treated: list[str]


def randomised(
    table: pd.DataFrame, path: Path, outcome: str, treatment: str, control: str | None, treated: list[str] | None
) -> tuple[pd.DataFrame, Arms]:
    """Return the rows of the arms that are compared, with the treatment as text; raises InputError."""
    for name in (outcome, treatment):
        if name not in table.columns:
            raise InputError(f"{path}: column {name}: is missing; the columns found are {', '.join(map(str, table.columns))}")
        if table[name].isna().any():
            row = int(np.argmax(table[name].isna().to_numpy())) + 1
            raise TableError("trial", name, row, "is missing or empty", str(path))
    given = table[treatment].astype(str)
    values = sorted(given.unique())
    if control is None:
        control = next((value for value in values if value.lower() in CONTROL_NAMES), None)
    if control is None or control not in values:
        raise InputError(f"{path}: column {treatment}: which value is the control? give --control, one of {', '.join(values[:10])}")
    arms = Arms(control, treated or [value for value in values if value != control])
    unknown = [value for value in arms.treated if value not in values or value == control]
    if unknown:
        raise InputError(f"{path}: column {treatment}: --treated {unknown[0]!r} is not one of {', '.join(values[:10])}")
    rows = table.assign(**{treatment: given})[given.isin([control, *arms.treated]).to_numpy()].reset_index(drop=True)
    for arm, size in ((control, int((rows[treatment] == control).sum())), ("treated", int((rows[treatment] != control).sum()))):
        if size < LEAST_ROWS:
            raise InputError(f"{path}: column {treatment}: {size} rows of {arm}, and it takes {LEAST_ROWS} of each arm to learn from")
    return rows, arms


def trial_of(
    rows: pd.DataFrame, arms: Arms, path: Path, outcome: str, treatment: str, features: str | None
) -> tuple[Trial, list[str], dict[str, str]]:
    """Return the trial, the names of its features, and why each other column was left out; raises InputError."""
    wanted = (
        [name.strip() for name in features.split(",")] if features else [name for name in rows.columns if name not in (outcome, treatment)]
    )
    absent = [name for name in wanted if name not in rows.columns]
    if absent:
        raise InputError(f"{path}: --features {absent[0]} is no column; the columns are {', '.join(map(str, rows.columns))}")
    got, result = (rows[treatment] != arms.control).to_numpy(), amounts(rows[outcome], path)
    kept: dict[str, Matrix] = {}
    left_out: dict[str, str] = {}
    for name in wanted:
        columns = encoded(rows[name])
        if columns is None:
            left_out[name] = f"text of more than {MOST_LEVELS} different values"
        elif not features and (imbalance(columns, got) < BALANCE_P / columns.shape[1]).any():
            left_out[name] = "it differs between the arms, so it was not known before the treatment"
        elif not features and gives_away(columns, result).any():
            left_out[name] = "it tells the outcome, so it was not known before the treatment"
        else:
            kept[name] = columns
    if not kept:
        raise InputError(f"{path}: no column is left that was known before the treatment; name them with --features")
    return Trial(np.hstack(list(kept.values())), got, result), list(kept), left_out


def amounts(column: pd.Series[Any], path: Path) -> Floats:
    """Return an outcome as numbers; raises TableError naming the first row that is none."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if np.isnan(numbers).any():
        row = int(np.argmax(np.isnan(numbers)))
        raise TableError("trial", str(column.name), None, f"{column.iloc[row]!r} is not a number", str(path))
    return numbers


def encoded(column: pd.Series[Any]) -> Matrix | None:
    """Return a column as numbers, texts as a column per value, (n, k); None where there are too many values."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return (column.astype("int64").to_numpy()[:, None] / 1e9).astype(np.float32)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float32)[:, None]
    if not column.map(lambda value: isinstance(value, str) or value is None or value != value).all():
        return None
    levels = pd.get_dummies(column) if column.nunique() <= MOST_LEVELS else None
    return None if levels is None or levels.empty else levels.to_numpy(np.float32)


def uplift_report(trial: Trial, score: Floats, found: Qini) -> dict[str, Any]:
    """Return the figures of one comparison."""
    return {
        "rows": len(trial),
        "treated_rows": int(trial.treated.sum()),
        "effect": trial.effect,
        "mean_uplift": float(score.mean()),
        "qini": found.coefficient,
        "qini_interval": list(found.interval),
        "better_than_random": found.interval[0] > 0,
        "curve": {"share": found.share, "gained": found.gained},
        "by_fifth": by_fifth(trial, score),
    }


def by_fifth(trial: Trial, score: Floats) -> list[dict[str, float | None]]:
    """Return the expected and the observed effect of each fifth of the people, those who gain most first."""
    place = np.argsort(np.argsort(-score, kind="stable"), kind="stable") * 5 // len(score)
    found: list[dict[str, float | None]] = []
    for fifth in range(5):
        part = trial.take(place == fifth)
        both: Bools = np.array([part.treated.any(), (~part.treated).any()])
        found.append({"expected": float(score[place == fifth].mean()), "observed": part.effect if both.all() else None})
    return found


def by_treatment(
    rows: pd.DataFrame, trial: Trial, score: Floats, treatment: str, arms: Arms, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the same order's figures for each treatment on its own, where there are several."""
    if len(arms.treated) < 2:
        return {}
    given = rows[treatment].to_numpy()
    found: dict[str, dict[str, Any]] = {}
    for arm in arms.treated:
        mine: npt.NDArray[np.bool_] = np.isin(given, [arm, arms.control])
        part = trial.take(mine)
        one = qini(part, score[mine], draws=draws, seed=seed)
        found[arm] = {"rows": len(part), "effect": part.effect, "qini": one.coefficient, "qini_interval": list(one.interval)}
    return found


def uplift_summary(report: dict[str, Any]) -> RenderableType:
    """Return the report as facts and a table of fifths."""
    low, high = report["qini_interval"]
    shown = {name: report[name] for name in ("outcome", "control", "treated", "rows", "features", "effect")}
    shown["Qini coefficient"] = f"{report['qini']:.5f} (95 %: {low:.5f} .. {high:.5f})"
    shown["better than at random"] = report["better_than_random"]
    table = Table(box=None, pad_edge=False)
    for name in ("people by expected gain", "expected effect", "observed effect"):
        table.add_column(name, justify="right")
    for fifth, row in enumerate(report["by_fifth"], 1):
        table.add_row(f"fifth {fifth}", *("unknown" if row[name] is None else f"{row[name]:+.4f}" for name in ("expected", "observed")))
    return Group(facts(shown), "", table)
