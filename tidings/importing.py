"""`tidings import`: tables, a Deskdrop export or a git history become a folder of interchange tables."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress as Bars

from lake.errors import InputError
from lake.importers import Summary, import_sources
from lake.importers.base import Context, Progress
from tidings.console import Json, emit, facts, progress, say

KEY_VARIABLE = "TIDINGS_HASH_KEY"
MIN_KEY_BYTES = 16


class Format(StrEnum):
    """What a source is; `auto` finds out."""

    auto = "auto"
    tables = "tables"
    deskdrop = "deskdrop"
    git = "git"


def register(app: typer.Typer) -> None:
    """Add `import`."""
    app.command("import")(import_)


def import_(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Table files, a folder of them, or a git clone (path or URL).")],
    into: Annotated[Path, typer.Option(help="The folder to write; an earlier import there is replaced once all went well.")],
    format_: Annotated[Format, typer.Option("--format", help="What the sources are.")] = Format.auto,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"A secret to hash addresses with, so that imports share user ids; else ${KEY_VARIABLE}, else one made for this import."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read tables, a Deskdrop export or a git clone into a folder of tables."""
    started = time.perf_counter()
    summary = import_into(sources, into, format_.value, key_file)
    seconds = time.perf_counter() - started
    rows = sum(summary.rows.values())
    report: dict[str, object] = {
        "into": str(into),
        "formats": summary.formats,
        "rows": summary.rows,
        "derived": summary.derived,
        "dropped": summary.dropped,
        "first_event": summary.survey.first,
        "last_event": summary.survey.last,
        "kinds": summary.survey.kinds,
        "notes": summary.survey.notes,
        "seconds": round(seconds, 3),
        "rows_per_s": round(rows / seconds),
    }
    emit(report, as_json=as_json, summary=facts(_readable(report, rows)))
    for note in summary.survey.notes:
        say(f"[yellow]note:[/] {escape(note)}")


def import_into(sources: Sequence[str], into: Path, format_name: str = "auto", key_file: Path | None = None) -> Summary:
    """Read sources into a folder of tables, with a bar for each; see lake.importers.import_sources."""
    with progress() as bars:
        # An import is a loop of its own: only here is it known what "in the future" means.
        context = Context(time.clock_gettime(time.CLOCK_REALTIME), hash_key(key_file), _drawn(bars))
        return import_sources(sources, into, format_name, context)


def hash_key(key_file: Path | None) -> bytes:
    """Return the key that addresses are hashed with: of a file, of the environment, or a fresh one; raises InputError."""
    if key_file is not None:
        try:
            key, origin = key_file.read_bytes().strip(), str(key_file)
        except OSError as error:
            raise InputError(f"{key_file}: cannot be read: {error.strerror}") from error
    else:
        key, origin = os.environ.get(KEY_VARIABLE, "").encode(), f"${KEY_VARIABLE}"
        if not key:
            return secrets.token_bytes(32)
    if len(key) < MIN_KEY_BYTES:
        raise InputError(
            f"{origin}: a key of {len(key)} bytes can be guessed; use {MIN_KEY_BYTES} or more, such as from `openssl rand -hex 32`"
        )
    return key


def _drawn(bars: Bars) -> Progress:
    """Return a listener that draws a bar per thing that is done."""
    tasks = {}

    def draw(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)

    return draw


def _once(formats: object) -> list[str]:
    """Return what the sources were read as, each format once."""
    assert isinstance(formats, list)
    return list(dict.fromkeys(formats))


def _readable(report: dict[str, object], rows: int) -> dict[str, object]:
    """Return a report with a line per table and per reason."""
    lines: dict[str, object] = {"into": report["into"], "read as": _once(report["formats"])}
    for name in ("rows", "derived", "dropped"):
        counts = report[name]
        assert isinstance(counts, dict)
        lines |= {f"{name}: {what}": count for what, count in counts.items()}
    if report["last_event"] is not None:
        lines |= {"events": f"{report['first_event']:%Y-%m-%dT%H:%MZ} to {report['last_event']:%Y-%m-%dT%H:%MZ}", "kinds": report["kinds"]}
    return lines | {"rows in all": rows, "seconds": report["seconds"], "rows per s": report["rows_per_s"]}
