"""`tidings switch`: stop a lane, a channel, a kind of item, a source or everything within a second, and let it go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from lake.redis_clock import RedisClock
from lake.redis_store import connect, open_meta
from lake.redis_switches import RedisSwitches
from lake.switches import name_of
from tidings.console import Json, emit, facts
from tidings.reaching import reachable

What = Annotated[str, typer.Argument(help="everything, lane:urgent, lane:scheduled, channel:CHANNEL, kind:KIND or source:SOURCE.")]


def register(app: typer.Typer) -> None:
    """Add `switch` and its commands."""
    group = typer.Typer(no_args_is_help=True, help="Stop a lane, a channel, a kind of item, a source or everything, and let it go on.")
    group.command("list")(list_off)
    group.command("off")(off)
    group.command("on")(on)
    app.add_typer(group, name="switch")


def list_off(as_json: Json = False) -> None:
    """List what is off, since when and why."""
    with _store() as (switches, _, _):
        found = switches.off()
    rows = {name: {"since": datetime.fromtimestamp(each.at, UTC).isoformat(), "reason": each.reason} for name, each in found.items()}
    shown = facts({name: f"{row['since']}  {row['reason']}" for name, row in rows.items()}) if rows else "nothing is off"
    emit({"off": rows}, as_json=as_json, summary=shown)


def off(what: What, reason: Annotated[str, typer.Option(help="Why, for whoever wonders.")] = "", as_json: Json = False) -> None:
    """Stop something: nothing of it is decided any more, and what waits to be delivered waits on, until it expires."""
    with _store() as (switches, clock, name):
        switches.turn_off(name(what), reason, clock.now())
    emit({"off": what}, as_json=as_json, summary=f"{what} is off: within a second nothing of it is decided or delivered")


def on(what: What, as_json: Json = False) -> None:
    """Let something go on that was stopped."""
    with _store() as (switches, _, name):
        was_off = switches.turn_on(name(what))
    emit({"on": what, "was_off": was_off}, as_json=as_json, summary=f"{what} is on" + ("" if was_off else ", as it was"))


@contextmanager
def _store() -> Iterator[tuple[RedisSwitches, RedisClock, Callable[[str], str]]]:
    with reachable() as url, connect(url) as client:
        meta = open_meta(client)
        yield RedisSwitches(client), RedisClock(client), lambda what: name_of(what, meta)
