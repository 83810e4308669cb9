"""`tidings calibrate`: a trained model's probabilities brought in line with what has happened since."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lake.dataset import Dataset
from lake.errors import InputError
from ranking import bundle as bundles
from ranking.bundle import Window
from ranking.evaluation import rounded
from ranking.recalibrate import recalibrate
from tidings.console import Json, emit, facts, step
from tidings.learning import DataOption, instant


def register(app: typer.Typer) -> None:
    """Add `calibrate`."""
    app.command("calibrate")(calibrate)


def calibrate(
    data: DataOption,
    model: Annotated[Path, typer.Option(help="The trained model's folder; it stays as it is.")],
    until: Annotated[str, typer.Option(help="Nothing at or after this moment is used.")],
    out: Annotated[Path, typer.Option(help="The model folder to write: the same trees with a new curve.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same curve.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a model's probabilities to what came after its training; its rankings stay the same."""
    moment = instant(until)
    if out.resolve() == model.resolve():
        raise InputError(f"--out {out} is the model itself; name another folder, so that the way back stays open")
    with step("checking the model in a process of its own"):
        bundle = bundles.load(model, threads=0)
    with step("fitting the curve"):
        found = recalibrate(bundle, Dataset.load(data, moment), moment.timestamp(), seed=seed)
    metrics = bundle.metrics | {"recalibrated": rounded(found.metrics) | {"until": moment.isoformat(), "of": bundle.model_id}}
    # Like training, this is a loop of its own: only here is it known when the model was made.
    created_at = time.clock_gettime(time.CLOCK_REALTIME)
    model_id = bundles.write(
        out,
        bundle.booster,
        found.calibration,
        metrics,
        Window(bundle.window.since, moment.timestamp()),
        created_at,
        channels=bundle.channels,
        opt_out=bundle.opt_out,
        light=bundle.light,
        normal=bundle.normal,
        popular=bundle.popular,
    )
    bundles.verify(out)
    report = {"model_id": model_id, "of": bundle.model_id, "window": asdict(Window(bundle.window.since, moment.timestamp()))}
    emit(report | rounded(found.metrics), as_json=as_json, summary=facts(report | rounded(found.metrics)))
