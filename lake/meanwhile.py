"""Reads that wait for the store side by side: it serves one caller at a time, and whoever asks one thing after another waits each time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(32, thread_name_prefix="meanwhile")


def meanwhile(call: Callable[[], T]) -> Future[T]:
    """Begin a call in a thread; `result()` of what is returned waits for it and raises what it raises. Calls must not begin others so."""
    return _THREADS.submit(call)
