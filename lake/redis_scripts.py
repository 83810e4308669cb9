"""The Lua scripts of every room, and many calls of one in one round trip, on a store that may have been restarted and forgotten it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import NoScriptError

Call = tuple[Sequence[str], Sequence[str | bytes]]
"""The keys and the arguments of a call."""
Behind = Callable[[Pipeline], object]
"""Puts a command into a pipeline."""


def script_of(client: Redis, room: str, name: str) -> Script:
    """Return the script `room`/lua/`name`.lua as a callable; it is sent by its hash, and in full where the store has not seen it."""
    return client.register_script((files(room) / "lua" / f"{name}.lua").read_text())


def run_calls(client: Redis, script: Script, calls: Sequence[Call], behind: Behind | None = None) -> list[Any]:
    """Run calls of a script, and behind them a command on the same connection; return the reply of each call, then the command's.

    What a store refused because it does not know the script has not happened: it is taught the script, and those calls are run again.
    Raises the first error there is.
    """
    replies = _sent(client, script, calls, behind)
    unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        client.script_load(script.script)
        again = _sent(client, script, [calls[place] for place in unknown], behind)
        for place, reply in zip(unknown, again, strict=False):
            replies[place] = reply
        replies[len(calls) :] = again[len(unknown) :]
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _sent(client: Redis, script: Script, calls: Sequence[Call], behind: Behind | None) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for keys, arguments in calls:
        pipe.evalsha(script.sha, len(keys), *keys, *arguments)
    if behind is not None:
        behind(pipe)
    replies: list[Any] = pipe.execute(raise_on_error=False)
    return replies
