"""An event loop on which time passes only where everybody waits: what takes how long does not depend on the machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import pytest

P = ParamSpec("P")

CALL_S = 0.002
"""How long what goes to a thread takes."""


class _Waits(selectors.SelectSelector):
    """Instead of waiting, time passes."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed_s += timeout or 0.0
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop whose time begins at 0."""

    def __init__(self) -> None:
        self.waits = _Waits()
        super().__init__(self.waits)

    def time(self) -> float:
        """Return how much time has passed, seconds."""
        return self.waits.passed_s


@contextmanager
def no_threads() -> Iterator[None]:
    """Have what goes to a thread be done in CALL_S of the loop's time, by the loop."""

    async def at_once(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(CALL_S)
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", at_once)
        yield


def stopwatch() -> float:
    """Return the time of the loop that runs."""
    return asyncio.get_running_loop().time()


def in_simulated_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own, without threads."""

    @wraps(test)
    def run(*args: P.args, **named: P.kwargs) -> None:
        loop = SimulatedLoop()
        try:
            with no_threads():
                loop.run_until_complete(test(*args, **named))
        finally:
            loop.close()

    return run
