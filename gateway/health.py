"""Whether the parts behind the gateway answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

PATIENCE_S = 2.0


@dataclass
class Health:
    """Runs the checks of parts; one that hangs is waited for once, however many ask."""

    checks: Mapping[str, Callable[[], object]]
    _running: dict[str, asyncio.Future[object]] = field(default_factory=dict)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(max(len(self.checks), 1), thread_name_prefix="health")

    async def look(self) -> dict[str, str]:
        """Return what is wrong with each part, "" where it answers."""
        found = await asyncio.gather(*(self._look(part) for part in self.checks))
        return dict(zip(self.checks, found, strict=True))

    def close(self) -> None:
        """Stop looking."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self, part: str) -> str:
        running = self._running.get(part)
        if running is None or running.done():
            running = self._running[part] = asyncio.get_running_loop().run_in_executor(self._threads, self.checks[part])
        await asyncio.wait([running], timeout=PATIENCE_S)
        if not running.done():
            return f"has not answered for {PATIENCE_S:g} s"
        error = running.exception()
        return "" if error is None else f"{type(error).__name__}: {error}"
