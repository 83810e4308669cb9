"""How commands speak: progress and errors on stderr, the result on stdout, as a summary for people or as one JSON object."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, NoReturn

import orjson
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

BAD_INPUT = 2

err = Console(stderr=True, log_path=False)
"""For people: what is happening, and what went wrong."""
out = Console()
"""For the result, and nothing else."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of a summary.")]
"""The type of a command's `as_json` argument: `def train(..., as_json: Json = False)`."""


def emit(report: Mapping[str, object], *, as_json: bool, summary: RenderableType | None = None, link: str = "") -> None:
    """Print a command's result on stdout: `report` as one JSON object, else `summary`, else `report` as a two-column table.

    `link`: an address to open, printed under the summary.
    Numpy scalars and arrays, dates and paths are fine in `report`; NaN becomes null.
    """
    if as_json:
        out.file.write(orjson.dumps(report, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
        out.file.flush()
    else:
        out.print(summary if summary is not None else facts(report))
        if link:
            print_link(link)


def print_link(url: str) -> None:
    """Print an address to open on stdout, on a line of its own that is never broken or cut, however narrow the terminal."""
    out.print(url, soft_wrap=True, highlight=False, markup=False)


def facts(report: Mapping[str, object]) -> Table:
    """Return a two-column table of names and values; numbers get thousands separators and at most four decimals."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in report.items():
        table.add_row(escape(name.replace("_", " ")), escape(_text(value)))
    return table


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_text(part) for part in value) or "none"
    return str(value)


def say(message: str) -> None:
    """Tell the person one line on stderr; rich markup such as [bold] is understood."""
    err.print(message, highlight=False)


def fail(message: str, code: int = BAD_INPUT) -> NoReturn:
    """Say what went wrong on stderr and leave with `code`: 2 for something the person can correct, 1 for the rest."""
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show bars on stderr while a command works; `bars.add_task("reading", total=n)` adds one.

    Nothing is drawn where stderr is not a terminal, so logs and pipes stay clean.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        yield bars


@contextmanager
def step(message: str) -> Iterator[None]:
    """Show a spinner beside `message` on stderr while one step of unknown length runs."""
    with err.status(escape(message)):
        yield
