"""`tidings users`: everything held about one user, to hand over or to erase. The store is enough: the rest may be up or down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.redis_erasure import RedisErasure
from gateway.redis_exporting import export_of
from lake.errors import InputError
from lake.history import History
from lake.redis_rewriting import rewrite_log
from scheduler.redis_stores import RedisStores
from tidings.console import Json, emit, facts, out, step
from tidings.home import history_url
from tidings.reaching import reachable

User = Annotated[str, typer.Argument(metavar="ID", help="The user's id.")]
HistoryOption = Annotated[str | None, typer.Option(help="Where what happens is filed; by default that of the system that runs here.")]


def export(
    user_id: User,
    out_file: Annotated[Path | None, typer.Option("--out", help="The file to write, for this account's eyes only; else stdout.")] = None,
    history: HistoryOption = None,
) -> None:
    """Write everything held about a user as one JSON document."""
    with _stores() as stores, step("reading what is held"):
        document = export_of(stores, History(history_url(history)))(user_id, stores.clock.now())
    if document is None:
        raise InputError(f"nothing is held about {user_id!r} in this store and history")
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
    if out_file is None:
        out.file.write(text)
        out.file.flush()
        return
    _write_privately(out_file, text)
    emit({"user_id": user_id, "out": str(out_file)}, as_json=False, summary=f"{out_file}: everything held about {user_id}")


def erase(user_id: User, history: HistoryOption = None, as_json: Json = False) -> None:
    """Forget a user everywhere, and return once the store's append-only file holds nothing of them either."""
    with _stores() as stores:
        with step("erasing"):
            removed = RedisErasure(stores, History(history_url(history)))(user_id, stores.clock.now())
        with step("rewriting the append-only file"):
            log = rewrite_log(stores.client, wait=True)
    report = {"user_id": user_id, "removed": removed, "append_only_file": log}
    emit(report, as_json=as_json, summary=facts({"erased": user_id, **removed, "append-only file": log}))


def _write_privately(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; name another file with --out") from error


@contextmanager
def _stores() -> Iterator[RedisStores]:
    with reachable() as url:
        yield RedisStores.open(url)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Export or erase everything held about a user.")
    group.command("export")(export)
    group.command("erase")(erase)
    app.add_typer(group, name="users")
