"""Watches several couriers, each a process, drain one outbox: pace and processor time of all of them together."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection

from delivery.redis_outbox import RedisOutbox
from scheduler.redis_stores import RedisStores
from tidings.bench_drain import LOOK_EVERY_S, Drained, Look, spent_s

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0

Work = Callable[[int, Connection], None]
"""What a courier's process runs: given its number, it says that it is there, delivers until it is told anything, and answers a count."""


async def drain_by(couriers: int, work: Work, stores: RedisStores, processes: Mapping[str, int]) -> tuple[Drained, int]:
    """Run couriers until nothing is left; returns how it went, and the sum of what they answer. `processes`: as for bench_drain.drain.

    Raises RuntimeError where one of them does not start, or dies.
    """
    context, outbox, shards = multiprocessing.get_context("spawn"), RedisOutbox(stores.client, stores.meta.keys), range(stores.meta.shards)

    async def look() -> Look:
        left = sum(each.total for each in await asyncio.to_thread(outbox.backlog, shards))
        spent = sum(spent_s(int(each.pid or 0)) for each in running)
        return Look(time.perf_counter(), left, {"courier": spent} | {name: spent_s(pid) for name, pid in processes.items()})

    running: list[multiprocessing.process.BaseProcess] = []
    pipes: list[Connection] = []
    with ExitStack() as stack:
        for number in range(couriers):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(number, theirs), daemon=True)
            process.start()
            stack.callback(process.terminate)
            running.append(process)
            pipes.append(ours)
        began = await look()
        for pipe in pipes:
            _answer(pipe, START_TIMEOUT_S)
        seen = Drained(began.left, began)
        while not seen.looks or seen.looks[-1].left:
            if not all(process.is_alive() for process in running):
                raise RuntimeError("a courier of the bench died; its error is printed above")
            await asyncio.sleep(LOOK_EVERY_S)
            seen.looks.append(await look())
        for pipe in pipes:
            pipe.send(None)
        accepted = sum(int(str(_answer(pipe, STOP_TIMEOUT_S))) for pipe in pipes)
    return seen, accepted


def _answer(pipe: Connection, timeout_s: float) -> object:
    if not pipe.poll(timeout_s):
        raise RuntimeError(f"a courier of the bench has not answered within {timeout_s:.0f} s")
    return pipe.recv()
