"""The loop that delivers: it leases shards, drains those with something to send, and keeps the house while it is there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from delivery.dispatch import Dispatcher
from delivery.outbox import Outbox
from delivery.turn import DrainReport
from lake.clock import Clock
from lake.keys import Keys
from lake.metrics import Metrics

Housekeeping = Callable[[int, float], object]
"""Moves something of a shard to where it is kept, such as its decision log to files: shard, now. May block."""

KEEPERS = 2
"""Shards whose house is kept at a time: less than there are threads, so that deliveries always have some."""

log = logging.getLogger(__name__)


class Leases(Protocol):
    """What the courier asks of leases: see scheduler.lease.Leases."""

    def acquire(self, name: str, owner: str, now: float, ttl_s: float) -> int | None:
        """Take or extend a lease; None: it is another's."""
        ...

    def release(self, name: str, owner: str, token: int) -> bool:
        """Give up a lease at once."""
        ...


@dataclass(frozen=True)
class CourierSettings:
    """`shards_at_once`: drains under way at a time. `most_shards`: leases one courier takes, None: all it can get.

    `idle_s`: how long the loop rests when there is nothing to send. `rest_s`: how long a shard is left alone after a failure.
    `stalled_after_s`: without a full round for so long, the courier is not healthy.
    """

    lease_ttl_s: float = 15.0
    shards_at_once: int = 8
    most_shards: int | None = None
    idle_s: float = 0.1
    rest_s: float = 5.0
    housekeeping_every_s: float = 10.0
    stalled_after_s: float = 60.0


class StalledError(RuntimeError):
    """The courier is not delivering."""


@dataclass
class _State:
    leases: dict[int, int] = field(default_factory=dict)
    drains: dict[int, asyncio.Task[DrainReport]] = field(default_factory=dict)
    slow: list[tuple[int, asyncio.Task[DrainReport]]] = field(default_factory=list)
    resting: dict[int, float] = field(default_factory=dict)
    kept_at: dict[int, float] = field(default_factory=dict)
    keeping: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    leased_at: float = float("-inf")

    @property
    def deliveries(self) -> list[asyncio.Task[DrainReport]]:
        """All drains under way."""
        return [*self.drains.values(), *(task for _, task in self.slow)]

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """All that is under way."""
        return [*self.deliveries, *self.keeping.values()]


@dataclass(frozen=True)
class CourierParts:
    """What a courier works with. `away_errors`: what the store's client raises when the store does not answer."""

    dispatcher: Dispatcher
    outbox: Outbox
    leases: Leases
    clock: Clock
    metrics: Metrics
    keys: Keys
    housekeeping: Sequence[Housekeeping] = ()
    away_errors: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)


class Courier:
    """Delivers until it is stopped. `run` belongs to one event loop; `stop`, `check` may be called from any thread."""

    def __init__(self, parts: CourierParts, owner: str, settings: CourierSettings | None = None) -> None:
        self._parts, self._owner, self._settings = parts, owner, settings or CourierSettings()
        self._state = _State()
        self._slots = asyncio.Semaphore(self._settings.shards_at_once)
        self._keepers = asyncio.Semaphore(KEEPERS)
        self._stopping = False
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._round_ended_s = time.monotonic()

    def stop(self) -> None:
        """Ask `run` to finish what is under way, put back the rest, give up the leases and return."""
        self._stopping = True
        self._parts.dispatcher.stop()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    def check(self) -> None:
        """Raise StalledError where no round was completed for `stalled_after_s`, as when the store is away or the loop has died."""
        silent_s = time.monotonic() - self._round_ended_s
        if silent_s > self._settings.stalled_after_s:
            raise StalledError(f"courier {self._owner} has not completed a round for {silent_s:.0f} s")

    async def run(self) -> None:
        """Deliver until `stop`; survives a store that is away."""
        self._loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                try:
                    await self.round()
                    await self._rest(self._settings.idle_s)
                except self._parts.away_errors as error:
                    log.warning("the store does not answer; deliveries wait: %s", error)
                    await self._rest(self._settings.rest_s)
        finally:
            await self._finish()

    async def round(self) -> None:
        """Take leases, start a drain of every leased shard that has something to send and none under way, and keep the house beside it."""
        now = await asyncio.to_thread(self._parts.clock.now)
        self._reap(now)
        if now - self._state.leased_at >= self._settings.lease_ttl_s / 3 or now < self._state.leased_at:
            await asyncio.to_thread(self._take_leases, now)
        shards = sorted(self._state.leases)
        backlog = await asyncio.to_thread(self._parts.outbox.backlog, shards, now) if shards else []
        self._parts.metrics.gauge("tidings_outbox_backlog", sum(each.total for each in backlog))
        for shard, waiting in zip(shards, backlog, strict=True):
            if self._is_due(shard, now):
                self._state.kept_at[shard] = now
                self._state.keeping[shard] = asyncio.create_task(self._keep(shard, now))
            if waiting.ready and self._state.resting.get(shard, now) <= now and shard not in self._state.drains:
                self._state.drains[shard] = asyncio.create_task(self._work(shard))
        self._round_ended_s = time.monotonic()

    async def settled(self) -> None:
        """Return when no drain is under way."""
        while self._state.tasks:
            await asyncio.wait(self._state.tasks)
            self._reap(await asyncio.to_thread(self._parts.clock.now))

    async def _keep(self, shard: int, now: float) -> None:
        async with self._keepers:
            for keep in () if self._stopping else self._parts.housekeeping:  # else whoever has the shard next does
                await asyncio.to_thread(keep, shard, now)

    async def _work(self, shard: int) -> DrainReport:
        await self._slots.acquire()
        with ExitStack() as slot:
            slot.callback(self._slots.release)
            now = await asyncio.to_thread(self._parts.clock.now)  # a slot may have been long in coming
            return await self._parts.dispatcher.drain(shard, self._owner, now, partial(self._let_go, shard, slot))

    def _let_go(self, shard: int, slot: ExitStack) -> None:
        """Leave a shard, and the slot of its drain, to others while the drain waits for slow providers."""
        slot.close()
        self._state.slow.append((shard, self._state.drains.pop(shard)))

    def _is_due(self, shard: int, now: float) -> bool:
        kept_at = self._state.kept_at.get(shard, float("-inf"))
        is_due = bool(self._parts.housekeeping) and now - kept_at >= self._settings.housekeeping_every_s
        return is_due and shard not in self._state.keeping

    def _reap(self, now: float) -> None:
        state = self._state
        for shard, kept in list(state.keeping.items()):
            if kept.done():
                del state.keeping[shard]
                if not kept.cancelled() and (failure := kept.exception()) is not None:
                    log.error("keeping the house of shard %d failed; it is tried again", shard, exc_info=failure)
        ended = [(shard, task) for shard, task in (*state.drains.items(), *state.slow) if task.done()]
        state.drains = {shard: task for shard, task in state.drains.items() if not task.done()}
        state.slow = [(shard, task) for shard, task in state.slow if not task.done()]
        for shard, task in ended:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._state.resting[shard] = now + self._settings.rest_s
                log.error("draining shard %d failed; it rests for %.0f s", shard, self._settings.rest_s, exc_info=error)
            elif not task.cancelled():
                for (channel, outcome), count in task.result().ended.items():
                    self._parts.metrics.count("tidings_outcomes_total", count, channel=channel, outcome=outcome)

    def _take_leases(self, now: float) -> None:
        held, most = self._state.leases, self._settings.most_shards
        for shard in sorted(range(self._parts.keys.shards), key=lambda shard: shard not in held):
            if shard in held or most is None or len(held) < most:
                token = self._parts.leases.acquire(self._lease(shard), self._owner, now, self._settings.lease_ttl_s)
                if token is None:
                    held.pop(shard, None)
                else:
                    held[shard] = token
        self._state.leased_at = now

    def _lease(self, shard: int) -> str:
        return self._parts.keys.of_shard(f"{Keys.LEASE}-courier", shard)

    async def _rest(self, seconds: float) -> None:
        """Wait until a drain that found something ends, the time is up, or the courier is stopped."""
        loop = asyncio.get_running_loop()
        ends_at, woken = loop.time() + seconds, asyncio.create_task(self._woken.wait())
        ended: set[asyncio.Task[Any]] = set()
        waited: set[asyncio.Task[Any]] = {*self._state.deliveries, woken}
        while not woken.done() and not any(map(_found_something, ended)) and (left_s := ends_at - loop.time()) > 0:
            ended, waited = await asyncio.wait(waited, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()

    async def _finish(self) -> None:
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)
        try:
            now = await asyncio.to_thread(self._parts.clock.now)
            self._reap(now)
            for shard, token in self._state.leases.items():
                await asyncio.to_thread(self._parts.leases.release, self._lease(shard), self._owner, token)
        except self._parts.away_errors as error:
            log.warning("the store does not answer; the leases will expire: %s", error)
        await self._parts.dispatcher.close()


def _found_something(drain: asyncio.Task[DrainReport]) -> bool:
    return not drain.cancelled() and drain.exception() is None and (drain.result().taken > 0 or drain.result().full)
