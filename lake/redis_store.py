"""Connecting to the store, creating it on first use, and refusing one of another layout."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import DataError
from redis.retry import Retry

from lake.errors import InputError
from lake.keys import LAYOUT, META
from lake.meta import Meta
from lake.redaction import without_password

TIMEOUT_S = 5.0


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Return a client of the store at `url` (redis://, rediss:// or unix://).

    It never repeats a command by itself: a lost reply would run a write twice, and only the callers know which of
    their writes carry an id that makes a repeat harmless. Raises InputError, without the password, where the URL is none.
    """
    try:
        # What stands behind a "/" in a password would pass for a path, and what stands before it be told as the port.
        if "@" in url.partition("://")[2] and "@" not in urlsplit(url).netloc:
            raise ValueError
        return _client(url, timeout_s)
    except ValueError:
        raise InputError(
            f"{without_password(url)} is not the URL of a store: write redis://[user:password@]host:port/0, rediss://… or unix://…, "
            "with / # ? @ % in a password written as %2F %23 %3F %40 %25"
        ) from None


def _client(url: str, timeout_s: float) -> Redis:
    return Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, command_packer=_Packer()
    )


class _Packer:
    """Packs commands straight by hiredis: the client's own packer looks at each argument in turn, half of the time of a large MGET."""

    def pack(self, name: str, *args: Any) -> list[bytes]:
        """Return a command as the protocol wants it; a name of two words, such as SCRIPT LOAD, is two arguments.

        Raises DataError where an argument is none of these.
        """
        if not set(map(type, args)) <= _AS_IT_IS:
            args = tuple([value if type(value) in _AS_IT_IS else _plain(value) for value in args])
        return [hiredis.pack_command((*name.split(), *args))]


_AS_IT_IS = {str, bytes}


def _plain(value: Any) -> str | bytes:
    """Return an argument as text or bytes.

    Numbers are written here, since hiredis does not notice where a signal, such as that of Ctrl-C, ends the writing of one: it crashes.
    """
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise DataError(f"a command takes text, bytes and numbers, not {type(value).__name__}")


def open_meta(client: Redis, wanted: Meta | None = None) -> Meta:
    """Return the fixed properties of the store, creating them from `wanted` on first use.

    Raises InputError where the store was created with another layout or number of shards than `wanted` asks for.
    """
    client.set(META, json.dumps(asdict(wanted or Meta())), nx=True)
    found = json.loads(client.get(META) or b"{}")
    if found["layout"] != LAYOUT:
        raise InputError(f"the store has key layout {found['layout']}, this version needs {LAYOUT}: use the version that created it")
    meta = Meta(shards=found["shards"], channels=tuple(found["channels"]))
    if wanted is not None and wanted.shards != meta.shards:
        raise InputError(f"the store was created with {meta.shards} shards, not {wanted.shards}: the number is fixed at creation")
    return meta
