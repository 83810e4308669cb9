"""One drain of one shard: its queues are sent in waves, and what became of each message is recorded.

A message is marked before its provider is called and settled after. What is found marked and not settled is unknown and
never sent again; what is found unmarked was never sent and goes now. A unit of budget goes back only after the outcome is
recorded, so that a courier that lost the message to another cannot give back what the other has delivered. Messages kept
as dead letters keep their unit until they are dropped: replaying one must not send beyond the budget.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock

import numpy as np

from delivery.backoff import Backoff
from delivery.breaker import Breaker, BreakerSettings, is_down
from delivery.channels.base import Accepted, Answer, Channel, Permanent, Transient, Unknown
from delivery.looking import Ended, Look, Ready, names_of
from delivery.outbox import Entry, Outcome, Retry, State
from delivery.parts import Parts
from delivery.screening import EXPIRED, NO_ITEM, SUPERSEDED
from delivery.underway import Doors, Line, Queue, Underway
from delivery.ways import Way

Call = asyncio.Task[list[Answer]]


@dataclass(frozen=True)
class DispatchSettings:
    """`batch`: most messages per drain. `abandoned_after_s`: how long another courier may hold a message; longer than any send.

    `off_s`: how long what is switched off waits before it is looked at again. `apart_s`: how long a provider may take for all that is in
    hand before the shard's other messages go on without it. `patience_s`: how long it may take for one wave before what is behind that is
    put back, and what comes meanwhile is put aside for `slow_s`, or half of what is left of its time. `waves`: how many waves of a queue
    are sent at a time, however many shards have some; `late_s`: how long a wave waits for the last of its calls once half of them are back,
    before the next wave goes. `look`: about how many messages of a provider are screened and worded at a time; `fresh_s`: how long that
    counts, until what then still waits is looked at again.
    """

    batch: int = 500
    abandoned_after_s: float = 120.0
    backoff: Backoff = Backoff()
    breaker: BreakerSettings = BreakerSettings()
    off_s: float = 5.0
    apart_s: float = 0.25
    patience_s: float = 2.0
    slow_s: float = 5.0
    waves: int = 8
    late_s: float = 0.5
    look: int = 100
    fresh_s: float = 1.0


@dataclass
class DrainReport:
    """What became of the messages of a drain. `taken`: those that came for no queue on its way. `ended`: counts by channel and outcome.

    `full`: it found as many as a drain takes, so that there may be more.
    """

    taken: int = 0
    full: bool = False
    retried: int = 0
    ended: Counter[tuple[str, State]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, ended: Iterable[tuple[str, State]], retried: int = 0) -> None:
        """Count messages that have ended, or were put back; queues, and calls that come back late, are settled in threads side by side."""
        with self._lock:
            self.ended.update(ended)
            self.retried += retried

    def count(self, state: State) -> int:
        """Return how many messages ended so, over all channels."""
        return sum(n for (_, ended), n in self.ended.items() if ended == state)


@dataclass(frozen=True)
class Outlet:
    """Where a queue goes out. `doors`: what bounds its calls; `stopping`: whether the courier is."""

    queue: Queue
    way: Way
    doors: Doors
    line: Line
    underway: Underway
    stopping: Callable[[], bool]

    @property
    def halted(self) -> bool:
        """Whether nothing more of it may be sent for now."""
        return self.stopping() or self.line.slow


@dataclass(frozen=True)
class _Answers:
    """What the answers to calls of a wave, begun at `began`, are recorded by."""

    outlet: Outlet
    channel: Channel
    breaker: Breaker
    began: float


@dataclass(frozen=True)
class Turn:
    """One drain of one shard, begun at `began_at` when the stopwatch showed `began_s`: what goes on by itself may take many minutes."""

    parts: Parts
    look: Look
    settings: DispatchSettings
    shard: int
    consumer: str
    began_at: float
    report: DrainReport
    stopwatch: Callable[[], float]
    began_s: float

    @property
    def now(self) -> float:
        """What time it is by now, epoch seconds."""
        return self.began_at + self.stopwatch() - self.began_s

    async def send(self, outlet: Outlet, rows: Sequence[Ready]) -> list[Entry]:
        """Send messages of a queue in waves of as many as its provider can have in hand, each settled before the next; return what is left.

        Where a provider is down, one message tries; the rest go by another, or are left, and have used up no attempt. Behind a wave that
        took too long the rest is left as well: there may be no end to it.
        """
        left = deque(rows)
        while left:
            async with outlet.doors.waves:
                chosen = None if outlet.halted else outlet.way.choose(self.now)
                if chosen is None:
                    break
                channel, breaker = chosen
                per_call = outlet.way.per_call(channel)
                tries = 1 if breaker.resting_until is not None else per_call * channel.traits.concurrency
                wave = [left.popleft() for _ in range(min(tries, len(left)))]
                await self._wave(outlet, channel, breaker, wave, per_call)
                outlet.line.pace.did(len(wave))
        return [row.entry for row in left]

    async def put_back(self, entries: Iterable[Entry], due_at: float | None) -> None:
        """Put messages aside until a time, or until they expire; None: they may go at once, those first that were granted first."""
        messages = ((entry, entry.message) for entry in entries)
        retries = [Retry(entry, message.granted_at if due_at is None else min(due_at, message.deliver_by)) for entry, message in messages]
        await asyncio.to_thread(self.settle, [], retries)

    async def _wave(self, outlet: Outlet, channel: Channel, breaker: Breaker, wave: Sequence[Ready], per_call: int) -> None:
        """Send one wave, let the circuit know how it went, and settle it."""
        mine: Sequence[Ready] = ()
        try:
            mine = await self._mine(channel, wave)
        finally:  # also where the store does not answer: who was to try has asked nobody
            if not mine:
                breaker.unused(self.now)
        if not mine:
            return
        calls = {asyncio.create_task(channel.send([row.delivery for row in chunk])): chunk for chunk in _chunks(mine, per_call)}
        began = self.now
        with outlet.underway.patience(outlet.queue, self.settings.patience_s):
            back = await self._most(list(calls), outlet.doors, most_late=self.settings.waves * channel.traits.concurrency)
        outlet.way.took(channel, max(map(len, calls.values())), self.now - began)
        answers = _Answers(outlet, channel, breaker, began)
        for call, rows in calls.items():
            if call not in back:
                outlet.doors.leave(call)
                outlet.line.late.append(asyncio.create_task(self._late(rows, call, answers)))
        await self._back([(rows, call) for call, rows in calls.items() if call in back], answers)

    async def _mine(self, channel: Channel, wave: Sequence[Ready]) -> Sequence[Ready]:
        """Return those of a wave that are to go by now, marked where they must be."""
        mine = await asyncio.to_thread(lambda: self._in_time(self._fresh(wave)))
        return await asyncio.to_thread(self._marked, mine) if mine and not channel.traits.idempotent else mine

    async def _most(self, calls: Sequence[Call], doors: Doors, most_late: int) -> set[Call]:
        """Return the calls that are back when all are, or else half of them after `late_s`: who answers late keeps few others waiting."""
        back, late = await asyncio.wait(calls, timeout=self.settings.late_s)
        while late and (len(late) > len(back) or len(late) + doors.late > most_late):
            more, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
            back |= more
        return back

    async def _late(self, rows: Sequence[Ready], call: Call, answers: _Answers) -> None:
        """Settle a call that was left behind when it comes back; raises an ExceptionGroup of what it raises."""
        await asyncio.wait([call])
        await self._back([(rows, call)], answers, late_since=answers.began)

    async def _back(self, calls: Sequence[tuple[Sequence[Ready], Call]], answers: _Answers, late_since: float = math.inf) -> None:
        """Let the circuit know how calls went that are back, and settle what they were for; raises an ExceptionGroup of what they raise."""
        breaker, failures = answers.breaker, [error for _, call in calls if (error := call.exception()) is not None]
        for _ in failures:
            breaker.record(down=True, now=self.now, began=late_since)
        answered = [pair for rows, call in calls if call.exception() is None for pair in zip(rows, call.result(), strict=True)]
        for down, run in groupby(is_down(answer) for _, answer in answered):
            for _ in run if down else (None,):  # one answer says as much as many in a row
                breaker.record(down=down, now=self.now, began=late_since)
            late_since = late_since if down else math.inf  # what the same call failed at afterwards is news
        elsewhere = answers.outlet.way.has_another(answers.channel)
        await asyncio.to_thread(self._answered, answered, answers.began, elsewhere=elsewhere)
        if failures:
            raise BaseExceptionGroup(f"channel {answers.channel.name}", failures)

    def _fresh(self, wave: Sequence[Ready]) -> Sequence[Ready]:
        """Look again as at first at what has waited long enough for its user to have unsubscribed, or moved, or gone."""
        now = self.now
        if all(now - row.delivery.at <= self.settings.fresh_s for row in wave):
            return wave
        ready, ended, waiting = self.look.at([row.entry for row in wave], now)
        self.settle(ended, waiting)
        return ready

    def _in_time(self, wave: Sequence[Ready]) -> list[Ready]:
        """Look again, the last thing before the provider is called: end what has expired, or was cancelled, while others were sent.

        What was switched off meanwhile is put back, and a digest that has lost some of its items, to be written anew.
        """
        now, off = self.now, self.parts.off()
        names = list({name: None for row in wave for name in row.delivery.told})
        gone = {name for name, is_there in zip(names, self.parts.items.there(names), strict=True) if not is_there}
        kept: list[Ready] = []
        ended: list[Ended] = []
        waiting: list[Retry] = []
        for row in wave:
            if row.until <= now:
                ended.append(Ended(Outcome(row.entry, EXPIRED.state, EXPIRED.reason), EXPIRED.refund))
            elif self.look.newest.overtaken(row.entry.message):
                ended.append(Ended(Outcome(row.entry, SUPERSEDED.state, SUPERSEDED.reason), SUPERSEDED.refund))
            elif gone.issuperset(row.delivery.told):
                ended.append(Ended(Outcome(row.entry, NO_ITEM.state, NO_ITEM.reason), NO_ITEM.refund))
            elif off and off & names_of(row.entry.message, row.kind):
                waiting.append(Retry(row.entry, min(now + self.settings.off_s, row.entry.message.deliver_by)))
            elif gone.isdisjoint(row.delivery.told):
                kept.append(row)
            else:
                waiting.append(Retry(row.entry, self.began_at))
        self.settle(ended, waiting)
        return kept

    def _marked(self, wave: Sequence[Ready]) -> list[Ready]:
        granted = self.parts.outbox.attempt(self.shard, self.consumer, [row.entry for row in wave], self.now)
        return [row for row, mine in zip(wave, granted, strict=True) if mine]

    def _answered(self, answered: Sequence[tuple[Ready, Answer]], began: float, *, elsewhere: bool) -> None:
        """Settle what was answered to calls begun at `began`; `elsewhere`: another provider could have taken it."""
        ended: list[Ended] = []
        retries: list[Retry] = []
        for row, answer in answered:
            entry = row.entry.answered(began, "" if isinstance(answer, Accepted) else answer.reason)
            if isinstance(answer, Accepted):
                ended.append(Ended(Outcome(entry, "accepted", provider_id=answer.provider_id)))
                continue
            judged = self._judge(entry, answer, elsewhere=elsewhere)
            if isinstance(judged, Retry):
                retries.append(judged)
            else:
                ended.append(judged)
            if isinstance(answer, Permanent) and answer.bad_address and row.delivery.address != row.entry.message.user_id:
                channel = row.entry.message.channel
                self.parts.suppression.suppress_address(channel, row.delivery.address, answer.reason, channel, self.now)
        self.settle(ended, retries)

    def _judge(self, entry: Entry, answer: Unknown | Permanent | Transient, *, elsewhere: bool) -> Ended | Retry:
        match answer:
            case Unknown(reason):
                return Ended(Outcome(entry, "unknown", reason))
            case Permanent(reason):
                return Ended(Outcome(entry, "failed", reason, dead=True))
            case Transient(reason, _, down=True) if elsewhere:
                return self._again(entry, reason, self.began_at)
            case Transient(reason, retry_after_s):
                return self._again(entry, reason, self.now + self.settings.backoff.wait_s(entry.attempts, retry_after_s))

    def _again(self, entry: Entry, reason: str, due_at: float) -> Ended | Retry:
        if entry.attempts >= self.settings.backoff.max_attempts:
            return Ended(Outcome(entry, "failed", f"gave up after {entry.attempts} attempts: {reason}", dead=True))
        if due_at >= entry.message.deliver_by:
            return Ended(Outcome(entry, EXPIRED.state, f"no time left for another attempt: {reason}"), refund=True)
        return Retry(entry, due_at)

    def settle(self, ended: Sequence[Ended], retries: Sequence[Retry]) -> None:
        """Record outcomes, put messages back, and give back the units of those whose outcome was the first."""
        if ended:
            first = self.parts.outbox.settle(self.shard, [each.outcome for each in ended], self.now)
            settled = [each for each, mine in zip(ended, first, strict=True) if mine]
            self.report.add((each.outcome.entry.message.channel, each.outcome.state) for each in settled)
            self._refund([each.outcome.entry for each in settled if each.refund])
        if retries:
            self.report.add((), retried=sum(self.parts.outbox.retry_later(self.shard, retries)))

    def _refund(self, entries: Sequence[Entry]) -> None:
        if entries:
            given = [(entry.message.user_id, grant_id) for entry in entries for grant_id in entry.message.grant_ids]
            self.parts.refund([user for user, _ in given], np.array([int(grant_id, 16) for _, grant_id in given], np.uint64))


def _chunks(rows: Sequence[Ready], size: int) -> Iterator[Sequence[Ready]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
