"""`tidings nightly`: the day's work of the scheduler, now instead of at 03:20 UTC."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from lake.errors import InputError
from tidings.console import Json, emit, fail, step
from tidings.home import nothing_runs, running
from tidings.system import ray_environment


def register(app: typer.Typer) -> None:
    """Add `nightly`."""
    app.command("nightly")(nightly)


def nightly(
    timeout_s: Annotated[float, typer.Option(help="How long to wait for it, seconds.", min=1.0)] = 3600.0, as_json: Json = False
) -> None:
    """Learn thresholds, publish features and windows and assign budgets of the week now; the scheduler does so at 03:20 UTC.

    Good after a night on which the system was down. What was done already is not done twice.
    """
    state = running()
    if state is None:
        raise InputError(nothing_runs("start the system with `tidings up`, which does this every night by itself"))
    os.environ.update(ray_environment())  # Ray reads its settings from the environment when it is imported
    from tidings.ray_nightly import do_days_work

    try:
        with step("doing the day's work"):
            done = do_days_work(state, timeout_s)
    except TimeoutError:
        fail(f"the day's work is not done after {timeout_s:g} s and goes on; wait for longer with --timeout-s", code=1)
    if not done:
        fail("another scheduler leads and does the day's work; try again when its lease is over", code=1)
    emit({"done": True}, as_json=as_json, summary="thresholds, features, windows and budgets are as of now")
