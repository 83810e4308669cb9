"""Making what was deleted gone for good: streams written anew, and the append-only file rewritten."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, cast

from redis import Redis
from redis.exceptions import ResponseError

from lake.errors import InputError
from lake.redis_scripts import script_of

POLL_S = 0.05
START_TIMEOUT_S = 60.0
"""How long to wait for a rewrite that began before ours: it may hold what has been deleted since."""
TIMEOUT_S = 3600.0

Rewritten = Literal["rewritten", "begun", "off"]
"""What became of the append-only file; "off": the store keeps none."""


def rewrite_stream(client: Redis, name: str, without: Sequence[str] = ()) -> int:
    """Write a stream anew without some entries, by id, and return how many it had; blocks the store for some 10 us per entry.

    What was deleted before is gone for good too. Groups, consumers and what they have in hand stay as they are.
    """
    run = script_of(client, "lake", "rewrite_stream")
    return cast(int, run([name, f"{name}:anew"], list(without)))


def rewrite_log(client: Redis, *, wait: bool) -> Rewritten:
    """Have the append-only file written anew from what the store holds now; with `wait`, return only once that is done.

    Raises InputError where the server does not allow it or fails at it, TimeoutError where it takes too long.
    """
    if not _state(client)["aof_enabled"]:
        return "off"
    _begin(client)
    if not wait:
        return "begun"
    give_up_at = time.monotonic() + TIMEOUT_S
    while _busy(state := _state(client)):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"the store has not rewritten its append-only file within {TIMEOUT_S:.0f} s; see its log")
        time.sleep(POLL_S)
    if state["aof_last_bgrewrite_status"] != "ok":
        raise InputError("the store failed to rewrite its append-only file: free disk space, read its log, and erase again")
    return "rewritten"


def _begin(client: Redis) -> None:
    """Begin a rewrite of our own, after the one that may be under way."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.bgrewriteaof()
        except ResponseError as error:
            if "in progress" not in str(error):
                raise InputError(
                    f"erased, but the server does not let its append-only file be rewritten ({error}): have it done there"
                ) from error
        else:
            return
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"another rewrite of the append-only file has not ended within {START_TIMEOUT_S:.0f} s: erase again later")
        time.sleep(POLL_S)


def _state(client: Redis) -> dict[str, int | str]:
    return cast(dict[str, int | str], client.info("persistence"))


def _busy(state: dict[str, int | str]) -> bool:
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])
