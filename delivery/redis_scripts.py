"""The Lua scripts of this package as callables of a client, and streams as plain lists."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, cast

from redis import Redis
from redis.commands.core import Script

Name = Literal["read_outbox", "attempt", "settle", "retry_later", "replay", "add_inbox", "mark_read", "append_events"]


def script(client: Redis, name: Name) -> Script:
    """Return the script; it is sent by its hash, and in full where the store has not seen it."""
    return client.register_script((files("delivery") / "lua" / f"{name}.lua").read_text())


def read_stream(client: Redis, name: str, count: int, after: str = "") -> list[tuple[str, dict[bytes, bytes]]]:
    """Return at most `count` entries of a stream with their ids, oldest first, after the id `after` ("" = from the first)."""
    # redis-py types replies for both kinds of clients; ours never decodes.
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(name, f"({after}" if after else "-", count=count))
    return [(entry_id.decode(), fields) for entry_id, fields in entries]
