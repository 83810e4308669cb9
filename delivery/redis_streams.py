"""Streams as plain lists."""

from __future__ import annotations

from typing import cast

from redis import Redis


def read_stream(client: Redis, name: str, count: int, after: str = "") -> list[tuple[str, dict[bytes, bytes]]]:
    """Return at most `count` entries of a stream with their ids, oldest first, after the id `after` ("" = from the first)."""
    # redis-py types replies for both kinds of clients; ours never decodes.
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(name, f"({after}" if after else "-", count=count))
    return [(entry_id.decode(), fields) for entry_id, fields in entries]
