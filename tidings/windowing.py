"""`tidings window --dry-run`: what people would be sent if their window opened now."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape
from rich.table import Table

from gateway.api_keys import new_key
from gateway.limits import MAX_REHEARSED
from gateway.redis_api_keys import RedisApiKeys
from lake.errors import InputError
from lake.redis_clock import RedisClock
from lake.redis_store import connect
from tidings.console import Json, emit, fail
from tidings.home import nothing_runs, running
from tidings.reaching import reachable

KEY_S = 60.0
"""How long the key holds with which the gateway is asked."""
TIMEOUT_S = 70.0
SHOWN = 50
NO_NUMBER = 1e8
"""A threshold as low as this is how settings say that there is none, as the demo's do."""


def register(app: typer.Typer) -> None:
    """Add `window`."""
    app.command("window")(window)


def window(
    user: Annotated[list[str], typer.Option(help=f"Whose window; give it again for each, at most {MAX_REHEARSED}.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Needed: real windows open by themselves.")] = False,
    url: Annotated[str, typer.Option(help="The gateway; by default that of the system running here.")] = "",
    as_json: Json = False,
) -> None:
    """Say what people would be sent if their window opened now, and why; nothing is sent, held or spent."""
    if not dry_run:
        raise InputError("windows open by themselves, at their own times; add --dry-run to see what one would send now")
    if len(user) > MAX_REHEARSED:
        raise InputError(f"--user: {len(user)} users are too many to rehearse at once; give at most {MAX_REHEARSED}")
    answer = _ask(url or _gateway(), user)
    emit(answer, as_json=as_json, summary=_table(answer["results"]) if answer["results"] else "there is nothing to tell any of them")


def _gateway() -> str:
    state = running()
    if state is None:
        raise InputError(nothing_runs("start the system with `tidings up`, or name a gateway with --url"))
    return state.api_url


def _ask(url: str, users: list[str]) -> dict[str, Any]:
    try:
        headers = {"Authorization": f"Bearer {_token()}"}
        answer = httpx.post(f"{url}/v1/windows/dry-run", json={"users": users}, headers=headers, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        fail(f"the gateway at {url} does not answer: {error}", code=1)
    if answer.is_error:
        fail(f"the gateway at {url} says {answer.status_code}: {answer.text[:500]}", code=1)
    found: dict[str, Any] = answer.json()
    return found


def _token() -> str:
    with reachable() as store, connect(store) as client:
        key, token = new_key(("read",), RedisClock(client).now(), name="tidings window", lifetime_s=KEY_S)
        RedisApiKeys(client).put(key)
        return token


def _table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows, those that would be sent first; of whom nobody knows one row is enough."""
    known = [row for row in rows if row["reason"] != "unknown_user"]
    unknown = {row["user_id"]: row | {"item_id": "any"} for row in rows if row["reason"] == "unknown_user"}
    rows = [*known, *unknown.values()]
    more = f"{len(rows) - SHOWN:,} more rows; --json shows all" if len(rows) > SHOWN else None
    table = Table("user", "item", "channel", "disposition", "reason", "value", "threshold", box=None, pad_edge=False, caption=more)
    for row in sorted(rows, key=lambda row: (row["disposition"] != "send", row["score"] is None, -(row["score"] or 0.0)))[:SHOWN]:
        numbers = ("" if row[name] is None or abs(row[name]) >= NO_NUMBER else f"{row[name]:.3f}" for name in ("score", "threshold"))
        table.add_row(escape(row["user_id"]), escape(row["item_id"]), row["channel"], row["disposition"], row["reason"], *numbers)
    return table
