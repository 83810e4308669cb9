"""`tidings deadletters`: what could not be delivered, to look at, send again or drop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from budgets.redis_ledger import RedisLedger
from delivery.deadletters import DeadLetters, name_of
from delivery.outbox import DeadLetter
from delivery.redis_outbox import RedisOutbox
from lake.errors import InputError
from lake.redis_store import connect, open_meta
from tidings.console import Json, emit
from tidings.reaching import reachable

Names = Annotated[list[str] | None, typer.Argument(help="Names of letters, as `tidings deadletters list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every letter there is, of the channel or user if given.")]
Channel = Annotated[str | None, typer.Option(help="Only letters of this channel.")]
User = Annotated[str | None, typer.Option(help="Only letters to this user.")]

EVERY = 1_000_000


@contextmanager
def _letters() -> Iterator[DeadLetters]:
    try:
        with reachable() as url, connect(url) as client:
            meta = open_meta(client)
            yield DeadLetters(RedisOutbox(client, meta.keys), meta.shards, RedisLedger(client, meta.keys).refund)
    except ValueError as error:
        raise InputError(str(error)) from error


def list_(
    limit: Annotated[int, typer.Option(min=1, help="Most letters to show, newest first.")] = 50,
    channel: Channel = None,
    user: User = None,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first."""
    with _letters() as letters:
        found = letters.find(limit, channel=channel, user_id=user)
    emit({"letters": [_facts(letter) for letter in found]}, as_json=as_json, summary=_table(found) if found else "no dead letters")


def show(name: Annotated[str, typer.Argument(help="The letter's name.")], as_json: Json = False) -> None:
    """Show everything about one letter."""
    with _letters() as letters:
        found = letters.get(name)
    if found is None:
        raise InputError(f"there is no dead letter {name!r}; `tidings deadletters list` shows them")
    message = found.message
    granted = {} if message is None else {**message.__dict__, "granted_because": message.reason}
    emit({**granted, **_facts(found)}, as_json=as_json)


def replay(names: Names = None, everything: All = False, channel: Channel = None, user: User = None, as_json: Json = False) -> None:
    """Send letters again; what is past its time by then ends as expired."""
    with _letters() as letters:
        handled = letters.replay(_chosen(letters, names, everything, channel, user))
    emit(
        {"replayed": handled.done, "missing": handled.missing},
        as_json=as_json,
        summary=f"{handled.done:,} put back into the outbox{_missing(handled.missing)}",
    )


def drop(names: Names = None, everything: All = False, channel: Channel = None, user: User = None, as_json: Json = False) -> None:
    """Forget letters; their units of budget go back to their users."""
    with _letters() as letters:
        handled = letters.drop(_chosen(letters, names, everything, channel, user))
    emit(
        {"dropped": handled.done, "missing": handled.missing},
        as_json=as_json,
        summary=f"{handled.done:,} dropped{_missing(handled.missing)}",
    )


def _chosen(letters: DeadLetters, names: list[str] | None, everything: bool, channel: str | None, user: str | None) -> list[str]:
    if bool(names) == everything:
        raise InputError("name the letters, or say --all (with --channel or --user to choose among them)")
    if names and (channel or user):
        raise InputError("--channel and --user choose among --all letters; leave them out where letters are named")
    return names or [name_of(letter) for letter in letters.find(EVERY, channel=channel, user_id=user)]


def _missing(names: list[str]) -> str:
    return f"; no such letter: {escape(', '.join(names))}" if names else ""


def _facts(letter: DeadLetter) -> dict[str, object]:
    message = letter.message
    return {
        "name": name_of(letter),
        "at": datetime.fromtimestamp(letter.at, UTC).isoformat(timespec="seconds"),
        "channel": message.channel if message else None,
        "user_id": message.user_id if message else None,
        "item_id": message.item_id if message else None,
        "attempts": letter.attempts,
        "reason": letter.reason,
    }


def _table(letters: list[DeadLetter]) -> Table:
    table = Table(Column("name", no_wrap=True), "at", "channel", "user", "item", "attempts", "reason", box=None, pad_edge=False)
    for letter in letters:
        table.add_row(*(escape(str("" if value is None else value)) for value in _facts(letter).values()))
    return table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="List and replay what could not be delivered.")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("replay")(replay)
    group.command("drop")(drop)
    app.add_typer(group, name="deadletters")
