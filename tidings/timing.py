"""`tidings send-times`: for each user, how likely each local hour of the week is to find them engaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from gateway.weeks import InForce, WeekPicture, population
from lake.dataset import Dataset
from lake.errors import InputError
from scheduler.activity import WEEK_HOURS
from scheduler.loading import windows_of
from scheduler.send_time import LEVELS, SendTimes, fit
from tidings.console import Json, emit, facts, step
from tidings.learning import DataOption, instant

ANYONE = "*"
"""The user_id of whoever has no rows of their own."""
USERS_AT_ONCE = 20_000
WEEKLY = 7
"""Windows a week, as a deployment gives them by default."""
BEST = 12
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHADES = " \u2591\u2592\u2593\u2588"
"""From no more than the least likely to the likeliest hour of a user's week."""
SCHEMA = pa.schema(
    [
        ("user_id", pa.dictionary(pa.int32(), pa.string())),
        ("channel", pa.dictionary(pa.int32(), pa.string())),
        ("hour_of_week", pa.int16()),
        ("score", pa.float32()),
    ]
)

WRITERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": lambda path: pq.ParquetWriter(path, SCHEMA, compression="zstd"),
    ".csv": lambda path: pyarrow.csv.CSVWriter(path, SCHEMA),
}


def register(app: typer.Typer) -> None:
    """Add `send-times`."""
    app.command("send-times")(send_times)


def send_times(
    data: DataOption,
    out: Annotated[Path, typer.Option(help=f"The table to write, ending in {' or '.join(WRITERS)}.")],
    until: Annotated[
        str | None,
        typer.Option(help="Predict from this moment on, using nothing at or after it; else from each user's latest event on."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help=f"Show the week of this user, or of everybody for {ANYONE}, as a picture of hours in the summary.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw that week, by default everybody's, with the windows that follow, as a picture: FILE.svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict each user's best hours of the week."""
    started = time.perf_counter()
    if out.suffix not in WRITERS:
        raise InputError(f"{out}: name a file to write that ends in {' or '.join(WRITERS)}")
    if plot is not None and plot.suffix != ".svg":
        raise InputError(f"--plot: {plot}: name a file to write that ends in .svg")
    moment = instant(until) if until is not None else None
    with step("reading history"):
        dataset = Dataset.load(data, moment)
    with step(f"learning the hours of {len(dataset.users):,} users from {len(dataset.events):,} events"):
        times = fit(dataset.events, dataset.users, now=moment.timestamp() if moment is not None else None)
    with step("writing"):
        rows = write(times, out)
    report: dict[str, object] = {
        "out": str(out),
        "users": len(times.users),
        "channels": sorted(times.channels),
        "rows": rows,
        "levels": dict(zip(LEVELS, np.bincount(times.level, minlength=len(LEVELS)).tolist(), strict=True)),
        "weights": {name: round(weight, 3) for name, weight in times.weights.items()},
        "seconds": round(time.perf_counter() - started, 2),
    }
    parts: list[RenderableType] = [facts(_readable(report, times))]
    if user is not None or plot is not None:
        report["week"], picture = week_of(times, user or ANYONE)
        parts += [picture] if user is not None else []
    if plot is not None:
        draw(times, user or ANYONE, plot)
        report["plot"] = str(plot)
    emit(report, as_json=as_json, summary=Group(*parts))


def week_of(times: SendTimes, user_id: str) -> tuple[dict[str, object], Table]:
    """Return a user's week as a report and as a table of days by local hours: darker is likelier, and what it rests on."""
    row = np.flatnonzero(times.users == user_id)
    known = len(row) > 0
    if not known and user_id != ANYONE:
        raise InputError(f"--user: no user {user_id!r} in the data; name one of its users, or {ANYONE} for everybody")
    score = times.scores[row[0]] if known else times.population
    report: dict[str, object] = {
        "user_id": user_id,
        "rests_on": LEVELS[int(times.level[row[0]]) if known else 0],
        "evidence_hours": round(float(times.evidence[row[0]]), 1) if known else 0.0,
        "best_hours_of_week": np.argsort(-score, kind="stable")[:BEST].tolist(),
        "scores": np.round(score.astype(np.float64), 6).tolist(),
    }
    told = f"{user_id}: rests on {str(report['rests_on']).replace('_', ' ')}, {report['evidence_hours']} hours of evidence"
    picture = Table(title=escape(told), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("local", *(f"{hour:02}" for hour in range(24))):
        picture.add_column(heading)
    step_of = np.ceil(score / score.max() * (len(SHADES) - 1)).astype(np.intp).reshape(7, 24)
    for day, shades in zip(DAYS, step_of.tolist(), strict=True):
        picture.add_row(day, *(SHADES[shade] * 2 for shade in shades))
    return report, picture


def draw(times: SendTimes, user_id: str, path: Path) -> None:
    """Write the week of a user whom the data knows, with their windows, or everybody's; raises InputError where that cannot be done."""
    if user_id == ANYONE:
        picture = population(times.population, "everybody")
    else:
        windows, shares = windows_of([user_id], times, WEEKLY)
        rests = LEVELS[int(times.rests_on([user_id])[0])].replace("_", " ")
        picture = WeekPicture(f"{user_id}: rests on {rests}", times.for_users([user_id])[0], InForce(windows[0], shares[0]).marks())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture.svg())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write(times: SendTimes, out: Path) -> int:
    """Write all scores, aside and then renamed, and return the number of rows; raises InputError where that cannot be done."""
    aside = out.with_name(f".{out.name}.part")
    rows = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with WRITERS[out.suffix](aside) as writer:
            for table in tables(times):
                writer.write_table(table)
                rows += len(table)
        aside.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error
    return rows


def tables(times: SendTimes) -> Iterator[pa.Table]:
    """Yield the rows of all users on any channel, then of those of single channels, each after the row of anyone unknown."""
    for channel, scored in ((None, times), *times.channels.items()):
        yield _table(np.array([ANYONE], object), scored.population[None], channel)
        for start in range(0, len(scored.users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            yield _table(scored.users[part], scored.scores[part], channel)


def _table(users: np.ndarray[tuple[int], np.dtype[np.object_]], scores: np.ndarray[tuple[int, int]], channel: str | None) -> pa.Table:
    n = len(users) * WEEK_HOURS
    codes = pa.array(np.repeat(np.arange(len(users), dtype=np.int32), WEEK_HOURS))
    where = pa.array([0], pa.int32()) if channel is not None else pa.nulls(1, pa.int32())
    columns = [
        pa.DictionaryArray.from_arrays(codes, pa.array(users, pa.string())),
        pa.DictionaryArray.from_arrays(where.take(pa.array(np.zeros(n, np.int32))), pa.array([channel or ""], pa.string())),
        pa.array(np.tile(np.arange(WEEK_HOURS, dtype=np.int16), len(users))),
        pa.array(scores.reshape(-1), pa.float32()),
    ]
    return pa.table(columns, schema=SCHEMA)


def _readable(report: dict[str, object], times: SendTimes) -> dict[str, object]:
    lines = {name: report[name] for name in ("out", "users", "channels", "rows", "seconds")}
    best = int(times.population.argmax())
    lines["most active hour"] = f"{DAYS[best // 24]} {best % 24:02}h local"
    lines |= {f"weight of {name.replace('_', ' ')}": weight for name, weight in times.weights.items()}
    return lines
