"""`tidings train` and `tidings score`: a model from history, and scores of candidates with it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.progress import Progress as Bars

from lake.dataset import Dataset
from lake.errors import InputError
from lake.table_files import format_of, read_file
from lake.tables import ID, NAME, TIME, Column, Schema
from ranking import bundle as bundles
from ranking.examples import ExampleRule
from ranking.fitting import OBJECTIVES, Shape, margins
from ranking.labels import DAY_S, LabelRule
from ranking.offline_score import score_candidates
from ranking.opt_out import OptOut
from ranking.opt_out import learn as opt_outs
from ranking.reference import Reference
from ranking.report import page
from ranking.train import Progress, Trained
from ranking.train import train as train_model
from ranking.value import value_of
from tidings.console import Json, emit, facts, progress, say, step

CANDIDATES = Schema(
    "candidates",
    (
        Column("user_id", ID, required=True),
        Column("item_id", ID, required=True),
        Column("channel", NAME, required=True),
        Column("at", TIME, required=True),
    ),
)
STALE = pd.Timedelta(days=7)
DataOption = Annotated[Path, typer.Option("--data", help="A folder of interchange tables.")]


def register(app: typer.Typer) -> None:
    """Add `train` and `score`."""
    app.command("train")(train)
    app.command("score")(score)


def train(
    data: DataOption,
    until: Annotated[str, typer.Option(help="Nothing at or after this moment is used, such as 2016-10-03T00:00:00Z.")],
    model: Annotated[Path, typer.Option(help="The model folder to write.")],
    trials: Annotated[int, typer.Option(min=0, help="How many further shapes of the model to try.")] = 0,
    objective: Annotated[str, typer.Option(help=f"What it is to predict: {', '.join(OBJECTIVES)}; trials try all of them.")] = "logistic",
    rows: Annotated[str, typer.Option(help="Learn from who could have been told what (log), who was (sends), or both.")] = "log",
    window_days: Annotated[float, typer.Option(min=0.01, help="How soon an engagement must come to count.")] = LabelRule().window_s / DAY_S,
    worth: Annotated[list[str] | None, typer.Option(help="KIND=NUMBER, at most 1: what an engagement of a kind is worth (graded).")] = None,
    recall: Annotated[float, typer.Option(min=0.01, max=1.0, help="The share of engagements the reported threshold is to keep.")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a model on what happened before a moment; report.html in its folder tells what was tried and what it is worth."""
    started = time.perf_counter()
    moment = instant(until)
    rule = ExampleRule(label=LabelRule(window_s=window_days * DAY_S, worth=worths(worth or [])))
    chosen = {"rule": rule, "shape": Shape(objective=objective), "source": rows, "recall": recall, "seed": seed, "trials": trials}
    with step("reading tables"):
        dataset = Dataset.load(data, moment)
    if (note := stale(dataset, moment)) is not None:
        say(f"[yellow]note:[/] {note}")
    model_id, trained = train_bundle(dataset, moment, model, **chosen)
    report = {"model": str(model), "model_id": model_id, "until": moment.isoformat(), "seconds": round(time.perf_counter() - started, 1)}
    emit(report | trained.metrics, as_json=as_json, summary=facts(report | _readable(trained)))


def train_bundle(dataset: Dataset, until: pd.Timestamp, model: Path, **how: Any) -> tuple[str, Trained]:
    """Train on what happened before `until`, write the bundle with its report and try it; returns the model's id and what was found.

    `how`: further arguments of ranking.train.train.
    """
    with progress() as bars:
        trained = train_model(dataset, until.timestamp(), **how, progress=_drawn(bars))
    # Training is a loop of its own: only here is it known when the model was made.
    created_at = time.clock_gettime(time.CLOCK_REALTIME)
    with step("learning the risk of opting out"):
        opt_out = opt_outs(dataset, until.timestamp())
    metrics = trained.metrics | {"opt_out": {"rate": opt_out.rate, "learned": opt_out.booster is not None}}
    model_id = bundles.write(
        model,
        trained.booster,
        trained.calibration,
        metrics,
        trained.window,
        created_at,
        opt_out=opt_out,
        light=trained.light,
        normal=normal_of(trained, opt_out),
        popular=trained.popular,
    )
    report = {"model_id": model_id, "until": until.isoformat()} | metrics
    (model / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (model / "report.html").write_text(page(report))
    with step("trying the model in a process of its own"):
        bundles.verify(model)
    return model_id, trained


def normal_of(trained: Trained, opt_out: OptOut) -> Reference:
    """Return what rows and scores of a trained model are like in its latest weeks."""
    probability = trained.calibration(margins(trained.booster, trained.late))
    return Reference.of(trained.late, np.stack([probability, value_of(probability, opt_out.risks(trained.late))], axis=1))


def stale(dataset: Dataset, until: pd.Timestamp) -> str | None:
    """Return a remark where the events end so long before `until` that its latest weeks, which a model is judged by, hold none."""
    last = dataset.events["at"].max()
    if not until - last > STALE:
        return None
    return (
        f"the last event, at {last:%Y-%m-%dT%H:%MZ}, is {(until - last).days} days before --until; what the model is worth may stay unknown"
    )


def worths(given: list[str]) -> tuple[tuple[str, float], ...]:
    """Return kinds and their worth from texts such as like=0.5; raises InputError for anything else."""
    found = []
    for text in given:
        kind, _, number = text.partition("=")
        try:
            worth = float(number)
        except ValueError:
            worth = math.nan
        if not kind or not 0 < worth <= 1:
            raise InputError(f"--worth {text!r} is no kind and its worth; write one such as like=0.5, above 0 and at most 1")
        found.append((kind, worth))
    return tuple(found)


def score(
    data: DataOption,
    model: Annotated[Path, typer.Option(help="The model folder.")],
    candidates: Annotated[Path, typer.Option(help="A table with user_id, item_id, channel and at.")],
    out: Annotated[Path, typer.Option(help="The table to write: the candidates with probability and score.")],
    as_json: Json = False,
) -> None:
    """Score candidates with a trained model, each with what was known just before its own `at`."""
    started = time.perf_counter()
    if format_of(out) is None or out.suffix not in WRITERS:
        raise InputError(f"{out}: name a file to write that ends in {', '.join(WRITERS)}")
    rows = CANDIDATES.frame(CANDIDATES.check(read_file(candidates, CANDIDATES.expected), str(candidates)))
    with step("checking the model in a process of its own"):
        bundle = bundles.load(model, threads=0)
    with step(f"scoring {len(rows):,} candidates"):
        dataset = Dataset.load(data)
        scored = score_candidates(bundle, dataset, rows)
    write_table(scored, out)
    report = {
        "out": str(out),
        "model_id": bundle.model_id,
        "candidates": len(scored),
        "users": int(scored["user_id"].nunique()),
        "items": int(scored["item_id"].nunique()),
        "users_not_in_the_data": len(set(rows["user_id"]) - set(dataset.users["user_id"])),
        "items_not_in_the_data": len(set(rows["item_id"]) - set(dataset.items["item_id"])),
        "mean_probability": float(scored["probability"].mean()) if len(scored) else None,
        "seconds": round(time.perf_counter() - started, 2),
    }
    emit(report, as_json=as_json)


WRITERS = {
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".ndjson": lambda frame, path: frame.to_json(path, orient="records", lines=True, date_format="iso", date_unit="us"),
}


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write rows to a file by its extension, aside and then renamed; raises InputError where that cannot be done."""
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](frame, aside)
        aside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def instant(text: str) -> pd.Timestamp:
    """Return the moment a person wrote; raises InputError where it is none or has no time zone."""
    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise InputError(f"--until {text!r} is not a time; write one such as 2016-10-03T00:00:00Z") from None
    if moment.tzinfo is None:  # also that of NaT
        raise InputError(f"--until {text!r} has no time zone; write it in UTC or with its offset, such as 2016-10-03T00:00:00Z")
    return moment.tz_convert("UTC")


def _drawn(bars: Bars) -> Progress:
    tasks = {}

    def draw(what: str, done: int, total: int, standing: str = "") -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total, description=f"{what}: {standing}" if standing else what)

    return draw


def _readable(trained: Trained) -> dict[str, object]:
    metrics, found = trained.metrics, trained.metrics["validation"]
    lines = {name: metrics[name] for name in ("rows", "positives", "objective", "trees")}
    lines["NDCG@5 on the last weeks"] = found["ndcg_at_5"]
    lines |= {f"NDCG@5, {name}": value for name, value in found["baselines"].items()}
    lines |= {name: found[name] for name in ("auc", "log_loss", "expected_over_observed")}
    threshold = found["threshold"]
    lines[f"threshold for a recall of {threshold['target_recall']:g}"] = threshold["probability"]
    tried = metrics["trials"] if len(metrics["trials"]) > 1 else []
    return lines | {f"{attempt['name']} ({attempt['objective']})": attempt["ndcg_at_5"] for attempt in tried}
