"""`tidings keys`: make, list and revoke API keys. A key is printed once; only its hash is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.api_keys import LOGIN, SCOPES, ApiKey, ApiKeyStore, check_scopes, new_key
from gateway.rates import parse_rate
from gateway.redis_api_keys import RedisApiKeys
from lake.errors import InputError
from lake.redis_clock import RedisClock
from lake.redis_store import connect
from tidings.console import Json, emit, say
from tidings.reaching import reachable

DAY_S = 86_400.0


class Office(NamedTuple):
    """The keys of the store this machine talks to, and its time."""

    keys: ApiKeyStore
    now: Callable[[], float]


@contextmanager
def _office() -> Iterator[Office]:
    with reachable() as url, connect(url) as client:
        yield Office(RedisApiKeys(client), RedisClock(client).now)


def new(
    scope: Annotated[str, typer.Option(help=f"What the key may do, separated by commas: {', '.join(SCOPES)}.")],
    name: Annotated[str, typer.Option(help="A note on whose key it is.")] = "",
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; by default it does not.")] = None,
    critical_quota: Annotated[
        int | None, typer.Option(min=0, help="Critical rows it may cause per UTC day; by default as many as the deployment says.")
    ] = None,
    rate: Annotated[str, typer.Option(help="How often it may call, such as 100/minute; by default as often as the deployment says.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    scopes = check_scopes([part.strip() for part in scope.split(",") if part.strip()])
    if rate:
        parse_rate(rate)
    with _office() as (keys, now):
        key, token = new_key(scopes, now(), name=name, lifetime_s=None if days is None else days * DAY_S)
        key = replace(key, critical_quota=critical_quota, rate=rate)
        keys.put(key)
    report = {"key": token, **_facts(key)}
    # Alone on stdout, so that a shell can put it into a variable.
    emit(report, as_json=as_json, summary=f"[bold]{token}[/]")
    say(f"[dim]{', '.join(scopes)}; keep it now, it is not shown again[/]")


def list_(as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    with _office() as (keys, now):
        at = now()
        known = [key for key in keys.all() if LOGIN not in key.scopes and (key.expires_at is None or key.expires_at > at)]
    emit(
        {"keys": [_facts(key) for key in known]},
        as_json=as_json,
        summary=_table(known) if known else "no keys; `tidings keys new` makes one",
    )


def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `tidings keys list` shows it.")], as_json: Json = False) -> None:
    """Revoke a key; gateways stop taking it within about a second."""
    with _office() as (keys, _):
        if not keys.revoke(key_id):
            raise InputError(f"there is no key {key_id!r}; `tidings keys list` shows them")
    emit({"revoked": key_id}, as_json=as_json, summary=f"key {escape(key_id)} is revoked")


def _facts(key: ApiKey) -> dict[str, object]:
    expires_at = None if key.expires_at is None else _iso(key.expires_at)
    facts = {"id": key.id, "scopes": list(key.scopes), "name": key.name, "created_at": _iso(key.created_at), "expires_at": expires_at}
    return facts | {"critical_quota": key.critical_quota, "rate": key.rate or None}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _short(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _table(keys: list[ApiKey]) -> Table:
    table = Table(Column("id", no_wrap=True), "scopes", "name", "created", "expires", box=None, pad_edge=False)
    for key in keys:
        table.add_row(
            key.id,
            ", ".join(key.scopes),
            escape(key.name),
            _short(key.created_at),
            "never" if key.expires_at is None else _short(key.expires_at),
        )
    return table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
    group.command("new")(new)
    group.command("list")(list_)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")
