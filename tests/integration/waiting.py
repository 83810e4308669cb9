"""Waiting for something to come true, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LOOK_EVERY_S = 0.05
LONG_S = 60.0
"""For what takes no time but on a machine that stands still: waiting ends as soon as it is there."""


def until(condition: Callable[[], T], timeout_s: float, what: str = "") -> T:
    """Return the first truthy answer of `condition`; fails the test where there is none within `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < give_up_at, f"{what or condition} has not come true within {timeout_s:g} s; the last answer is {answer!r}"
        pause.wait(LOOK_EVERY_S)


def let_time_fly() -> None:
    """Have whoever waits on this loop for LONG_S have waited in vain."""
    loop = asyncio.get_running_loop()
    time_of = loop.time
    loop.time = lambda: time_of() + 2 * LONG_S  # type: ignore[method-assign]


async def never(*asked: object) -> Any:
    """Never answer; meanwhile time flies, so that whoever waits for the answer for LONG_S has soon waited in vain."""
    for _ in range(50):  # who has sent everything may begin to wait only now
        let_time_fly()
        await asyncio.sleep(0.02)
    await asyncio.Event().wait()


def early_in(window_s: float, needs_s: float) -> None:
    """Return while that much is left of one of the windows that the clock is divided into: what is counted by window is not parted then."""
    left_s = window_s - time.time() % window_s
    if left_s < needs_s:
        time.sleep(left_s)
