"""The courier's work on a shard: take messages, part them into queues, and see each queue to its end (`turn.py`)."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from delivery.looking import Look
from delivery.newest import Newest
from delivery.outbox import Entry, Retry
from delivery.parts import Parts
from delivery.turn import DispatchSettings, DrainReport, Outlet, Turn
from delivery.underway import Busy, Doors, Line, Pace, Queue, Underway, nobody
from delivery.ways import Way


class Dispatcher:
    """Drains shards of an outbox. Several drains may run at once, each of its own shard."""

    def __init__(self, parts: Parts, settings: DispatchSettings | None = None, stopwatch: Callable[[], float] = time.monotonic) -> None:
        """`stopwatch`: seconds that only grow, for what a drain waits on its providers."""
        self._parts, self._settings, self._stopwatch = parts, settings or DispatchSettings(), stopwatch
        self._newest = Newest()
        self._look = Look(parts, self._newest, self._settings.off_s)
        self._ways = {
            name: Way((channel, *parts.stand_ins.get(name, ())), self._settings.breaker) for name, channel in parts.channels.items()
        }
        self._nowhere = Way((), self._settings.breaker)
        self._busy: defaultdict[int, Busy] = defaultdict(Busy)
        self._doors: defaultdict[Queue, Doors] = defaultdict(lambda: Doors(asyncio.Semaphore(self._settings.waves)))
        self._stopping = False

    def stop(self) -> None:
        """Finish the calls under way and put everything else back; drains return soon."""
        self._stopping = True

    async def close(self) -> None:
        """Close the channels."""
        for way in self._ways.values():
            for channel, _ in way.providers:
                await channel.close()

    async def drain(self, shard: int, consumer: str, now: float, let_go: Callable[[], None] = nobody) -> DrainReport:
        """Take one batch of a shard's messages and see each to an outcome or a retry.

        `let_go`: called where all that is left goes on by itself: the shard may be drained again before this returns.
        Raises what the store raises, and after everything else is settled an ExceptionGroup of what channels raised; what
        is not settled by then comes back when `abandoned_after_s` has passed.
        """
        outbox, settings = self._parts.outbox, self._settings
        abandoned_after_ms = int(settings.abandoned_after_s * 1000)
        busy = self._busy[shard]
        in_hand = busy.in_hand.copy()  # also what another drain settles while this one reads
        found = await asyncio.to_thread(outbox.read, shard, consumer, settings.batch, now, abandoned_after_ms)
        in_hand |= busy.in_hand
        entries = sorted((entry for entry in found if entry.entry_id not in in_hand), key=lambda entry: entry.message.granted_at)
        self._newest.saw([entry.message for entry in entries])
        report = DrainReport(taken=len(entries), full=len(found) >= settings.batch)
        if entries:
            turn = Turn(self._parts, self._look, settings, shard, consumer, now, report, self._stopwatch, self._stopwatch())
            entries, aside = self._put_aside(entries, busy, report, now)
            if aside:
                await asyncio.to_thread(turn.settle, [], aside)
        if entries:
            await self._send(turn, entries, Underway(busy, let_go))
        return report

    def _put_aside(self, entries: Sequence[Entry], busy: Busy, report: DrainReport, now: float) -> tuple[list[Entry], list[Retry]]:
        """Part entries into what is sent by a drain of their own, and what waits for a provider that rests or has enough in hand.

        That costs next to nothing: it comes again and again while its provider is down, and is looked at when it can be sent.
        What still has room in a queue that goes on by itself joins it.
        """
        resting = {name: until for name, way in self._ways.items() if (until := way.back_at(now)) is not None and until > now}
        if not (busy.apart or resting):
            return list(entries), []
        kept: list[Entry] = []
        aside: list[Retry] = []
        for entry in entries:
            message, queue, left_s = entry.message, Queue.of(entry.message), entry.message.deliver_by - now
            if entry.open or left_s <= 0:
                kept.append(entry)
            elif message.channel in resting:
                aside.append(Retry(entry, min(resting[message.channel], message.deliver_by)))
            elif (line := busy.apart.get(queue)) is None:
                kept.append(entry)
            else:
                report.taken -= 1
                if line.has_room(self._settings.batch):
                    busy.join(queue, entry)
                else:
                    later_s = self._settings.slow_s if line.slow else line.pace.next_s(self._stopwatch())
                    aside.append(Retry(entry, now + min(later_s, left_s / 2)))
        return kept, aside

    async def _send(self, turn: Turn, entries: Sequence[Entry], underway: Underway) -> None:
        queues: dict[Queue, list[Entry]] = defaultdict(list)
        for entry in entries:
            queues[Queue.of(entry.message)].append(entry)
        away = {queue for queue in queues if queue.channel in self._ways and not self._parts.channels[queue.channel].traits.local}
        with underway.apart_after(self._settings.apart_s, away):
            sends = [self._through(turn, queue, some, underway, is_away=queue in away) for queue, some in queues.items()]
            ended = await asyncio.gather(*sends, return_exceptions=True)
        failures = [error for error in ended if error is not None]
        if failures:
            raise BaseExceptionGroup(f"shard {turn.shard}: a channel failed in a way it should not", failures)

    async def _through(self, turn: Turn, queue: Queue, entries: Sequence[Entry], underway: Underway, *, is_away: bool) -> None:
        """See a queue's messages to their ends, a look at a time: what only waits in hand is screened and worded when its turn comes."""
        way, line = self._ways.get(queue.channel, self._nowhere), Line(Pace(self._stopwatch()))
        outlet = Outlet(queue, way, self._doors[queue], line, underway, lambda: self._stopping)
        look = self._settings.look if is_away else self._settings.batch
        line.add(entries)
        with underway.holding(line):
            left: Sequence[Entry] = ()
            try:
                with underway.queue(queue, line):
                    while line.waiting and not left and not outlet.halted:
                        ready, ended, waiting = await asyncio.to_thread(self._look.at, line.take(look), turn.now)
                        await asyncio.to_thread(turn.settle, ended, waiting)
                        line.pace.did(len(ended) + len(waiting))
                        left = await turn.send(outlet, ready)
                if left or line.waiting:  # nothing joins them any more
                    await turn.put_back([*left, *line.waiting], way.back_at(turn.now))
            finally:
                await _last_of(line, underway)


async def _last_of(line: Line, underway: Underway) -> None:
    """Wait for the calls of a queue that were left behind; raises an ExceptionGroup of what they raise."""
    if not line.late:
        return
    with underway.waiting():
        ended = await asyncio.gather(*line.late, return_exceptions=True)
    failures = [error for error in ended if error is not None]
    if failures:
        raise BaseExceptionGroup("calls that were left behind", failures)
