"""Waiting for something to come true, without guessing how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY_S = 0.05


def until(condition: Callable[[], T], timeout_s: float, what: str = "") -> T:
    """Return the first truthy answer of `condition`; fails the test where there is none within `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < give_up_at, f"{what or condition} has not come true within {timeout_s:g} s; the last answer is {answer!r}"
        pause.wait(LOOK_EVERY_S)
