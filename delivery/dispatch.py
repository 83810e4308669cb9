"""The courier's work on one shard: take messages, drop what must not go, send the rest, and record how each ended.

A message is marked before its provider is called and settled after. What is found marked and not settled is unknown and
never sent again; what is found unmarked was never sent and goes now. A unit of budget goes back only after the outcome is
recorded, so that a courier that lost the message to another cannot give back what the other has delivered. Messages kept
as dead letters keep their unit until they are dropped: replaying one must not send beyond the budget.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from jinja2 import TemplateError

from delivery.backoff import Backoff
from delivery.breaker import Breaker, BreakerSettings, is_down
from delivery.channels.base import Accepted, Answer, Channel, Content, Delivery, Permanent, Transient, Unknown
from delivery.locales import Reader, readers_of
from delivery.outbox import Entry, Outbox, Outcome, Retry, State
from delivery.preferences import KindRules
from delivery.screening import EXPIRED, NO_ITEM, Bools, Drop, Facts, deadline, screen
from delivery.suppression import Suppression
from delivery.telling import Told, actors_of, items_of, told_of
from delivery.templates import Seen, Templates
from delivery.underway import Busy, Pace, Queue, Underway, nobody
from delivery.ways import Way
from lake.actors import Actors
from lake.ids import Keys64
from lake.items import ItemStore
from lake.messages import Message
from lake.meta import Meta
from lake.profiles import HAS_KIND_PREFERENCES, Profiles, ProfileStore
from lake.switches import EVERYTHING, nothing_off

Refund = Callable[[Sequence[str], Keys64], object]
"""Gives units of budget back: user ids and grant ids (uint64). Repeating it changes nothing."""

TEMPLATE_ERRORS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError)
"""What a template or an odd item can raise; such a message is kept as a dead letter and must not stop the others."""


@dataclass(frozen=True)
class DispatchSettings:
    """`batch`: most messages per drain. `abandoned_after_s`: how long another courier may hold a message; longer than any send.

    `off_s`: how long what is switched off waits before it is looked at again. `apart_s`: how long a provider may take for all that is in
    hand before the shard's other messages go on without it. `patience_s`: how long it may take for one wave before what is behind that is
    put back, and what comes meanwhile is put aside for `slow_s`, or half of what is left of its time. `waves`: how many waves of a queue
    are sent at a time, however many shards have some.
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


@dataclass(frozen=True)
class Parts:
    """What a dispatcher works with. `stand_ins`: by channel, the providers that are asked while the one in `channels` is down."""

    outbox: Outbox
    channels: Mapping[str, Channel]
    profiles: ProfileStore
    items: ItemStore
    suppression: Suppression
    templates: Templates
    refund: Refund
    meta: Meta
    off: Callable[[], frozenset[str]] = nothing_off
    stand_ins: Mapping[str, Sequence[Channel]] = field(default_factory=dict)


@dataclass
class DrainReport:
    """What became of the messages of a drain. `taken`: those that were not put aside at once. `ended`: counts by channel and outcome."""

    taken: int = 0
    retried: int = 0
    ended: Counter[tuple[str, State]] = field(default_factory=Counter)

    def count(self, state: State) -> int:
        """Return how many messages ended so, over all channels."""
        return sum(n for (_, ended), n in self.ended.items() if ended == state)


@dataclass(frozen=True)
class _Ready:
    """A message to send. `delivery.message` is the entry's. `until`: when it is too late to call the provider, epoch seconds.

    `kind`: of the item it tells of first.
    """

    entry: Entry
    delivery: Delivery
    until: float
    kind: str


@dataclass(frozen=True)
class _Ended:
    """An outcome to record, and whether its unit of budget goes back."""

    outcome: Outcome
    refund: bool = False


def _names(message: Message, kind: str) -> set[str]:
    """Return by which names a message could be switched off."""
    return {EVERYTHING, f"lane:{message.lane}", f"channel:{message.channel}", f"source:{message.source}", f"kind:{kind}"}


class Dispatcher:
    """Drains shards of an outbox. Several drains may run at once, each of its own shard."""

    def __init__(self, parts: Parts, settings: DispatchSettings | None = None, stopwatch: Callable[[], float] = time.monotonic) -> None:
        """`stopwatch`: seconds that only grow, for what a drain waits on its providers."""
        self._parts, self._settings, self._stopwatch = parts, settings or DispatchSettings(), stopwatch
        self._ways = {
            name: Way((channel, *parts.stand_ins.get(name, ())), self._settings.breaker) for name, channel in parts.channels.items()
        }
        self._busy: defaultdict[int, Busy] = defaultdict(Busy)
        self._waves: defaultdict[Queue, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(self._settings.waves))
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

        `let_go`: called where all that is left waits for slow providers: the shard may be drained again before this returns.
        Raises what the store raises, and after everything else is settled an ExceptionGroup of what channels raised; what
        is not settled by then comes back when `abandoned_after_s` has passed.
        """
        outbox, settings = self._parts.outbox, self._settings
        abandoned_after_ms = int(settings.abandoned_after_s * 1000)
        busy = self._busy[shard]
        in_hand = busy.in_hand.copy()  # also what another drain settles while this one reads
        found = await asyncio.to_thread(outbox.read, shard, consumer, settings.batch, now, abandoned_after_ms)
        in_hand |= busy.in_hand
        entries = [entry for entry in found if entry.entry_id not in in_hand]
        report = DrainReport(taken=len(entries))
        if entries:
            turn = _Turn(self._parts, settings, shard, consumer, now, report, self._stopwatch, self._stopwatch())
            entries, aside = self._put_aside(entries, busy, report, now)
            if aside:
                await asyncio.to_thread(turn.settle, [], aside)
        if entries:
            ready, ended, waiting = await asyncio.to_thread(self._prepare, entries, now)
            await asyncio.to_thread(turn.settle, ended, waiting)
            await self._send(turn, ready, Underway(busy, let_go))
        return report

    def _put_aside(self, entries: Sequence[Entry], busy: Busy, report: DrainReport, now: float) -> tuple[list[Entry], list[Retry]]:
        """Part entries into what is looked at now, and what waits for a provider that rests or has enough in hand.

        That costs next to nothing: it comes again and again while its provider is down, and is looked at when it can be sent.
        """
        resting = {name: until for name, way in self._ways.items() if (until := way.resting_until) is not None and until > now}
        if not (busy.queues or resting):
            return list(entries), []
        kept: list[Entry] = []
        aside: list[Retry] = []
        for entry in entries:
            message, queue, left_s = entry.message, Queue.of(entry.message), entry.message.deliver_by - now
            if entry.open or left_s <= 0:
                kept.append(entry)
            elif message.channel in resting:
                aside.append(Retry(entry, min(resting[message.channel], message.deliver_by)))
            elif queue in busy.queues:
                report.taken -= 1
                pace = None if queue in busy.slow else busy.apart[queue].next_s(self._stopwatch())
                aside.append(Retry(entry, now + min(self._settings.slow_s if pace is None else pace, left_s / 2)))
            else:
                kept.append(entry)
        return kept, aside

    async def _send(self, turn: _Turn, ready: Mapping[Queue, Sequence[_Ready]], underway: Underway) -> None:
        sends = [
            turn.send(queue, self._ways[queue.channel], self._waves[queue], rows, underway, lambda: self._stopping)
            for queue, rows in ready.items()
        ]
        away = [queue for queue in ready if not self._parts.channels[queue.channel].traits.local]
        with underway.apart_after(self._settings.apart_s, away):
            ended = await asyncio.gather(*sends, return_exceptions=True)
        failures = [error for error in ended if error is not None]
        if failures:
            raise BaseExceptionGroup(f"shard {turn.shard}: a channel failed in a way it should not", failures)

    def _prepare(self, entries: Sequence[Entry], now: float) -> tuple[dict[Queue, list[_Ready]], list[_Ended], list[Retry]]:
        """Return what to send by queue, what has ended, and what waits because it is switched off."""
        facts, off = self._facts(entries, now), self._parts.off()
        actors = actors_of([entry.message for entry in entries], facts.told, self._parts.items)
        readers, seen = readers_of(facts.profiles), Seen()
        ready: dict[Queue, list[_Ready]] = defaultdict(list)
        ended: list[_Ended] = []
        waiting: list[Retry] = []
        for place, (entry, drop) in enumerate(zip(entries, screen(entries, facts, self._parts.channels, now), strict=True)):
            told, message = facts.told[place], entry.message
            if off and drop is None and off & _names(message, told.kind):
                waiting.append(Retry(entry, min(now + self._settings.off_s, message.deliver_by)))
                continue
            content = self._render(message, told, actors[place], readers[place], seen) if drop is None else drop
            if isinstance(content, Content):
                delivery = Delivery(message, facts.addresses[place] or "", content, now, told.item_ids)
                ready[Queue.of(message)].append(_Ready(entry, delivery, deadline(entry, told), told.kind))
            else:
                ended.append(_Ended(Outcome(entry, content.state, content.reason, dead=content.dead), content.refund))
        return ready, ended, waiting

    def _facts(self, entries: Sequence[Entry], now: float) -> Facts:
        parts = self._parts
        messages = [entry.message for entry in entries]
        users = [message.user_id for message in messages]
        profiles = parts.profiles.get(users)
        item_ids = items_of(messages)
        items = dict(zip(item_ids, parts.items.get(item_ids), strict=True))
        addresses = self._addresses(entries)
        known = {name: code for code, name in enumerate(parts.meta.channels)}
        return Facts(
            profiles=profiles,
            rules=self._rules(users, profiles),
            codes=np.array([known.get(message.channel, -1) for message in messages], np.int64),
            told=told_of(messages, items, now),
            addresses=addresses,
            address_suppressed=self._suppressed(entries, addresses),
        )

    def _rules(self, users: Sequence[str], profiles: Profiles) -> KindRules:
        having = np.flatnonzero(profiles["flags"] & HAS_KIND_PREFERENCES)
        rows = self._parts.profiles.preferences([users[place] for place in having.tolist()]) if len(having) else []
        found = dict(zip(having.tolist(), rows, strict=True))
        return KindRules.of([found.get(place, []) for place in range(len(users))], self._parts.meta)

    def _addresses(self, entries: Sequence[Entry]) -> list[str | None]:
        """Return each message's address; on channels that can do without, the user's own id stands in."""
        use = {name: channel.traits.address for name, channel in self._parts.channels.items()}
        messages = [entry.message for entry in entries]
        asked = list(dict.fromkeys(message.user_id for message in messages if use.get(message.channel, "unused") != "unused"))
        known = dict(zip(asked, self._parts.profiles.addresses(asked), strict=True)) if asked else {}
        return [
            known.get(message.user_id, {}).get(message.channel) or (None if use.get(message.channel) == "required" else message.user_id)
            for message in messages
        ]

    def _suppressed(self, entries: Sequence[Entry], addresses: Sequence[str | None]) -> Bools:
        suppressed = np.zeros(len(entries), np.bool_)
        places = [
            place
            for place, (entry, address) in enumerate(zip(entries, addresses, strict=True))
            if address is not None and address != entry.message.user_id
        ]
        if places:
            names = [entries[place].message.channel for place in places]
            suppressed[places] = self._parts.suppression.addresses_suppressed(names, [str(addresses[place]) for place in places])
        return suppressed

    def _render(self, message: Message, told: Told, actors: Actors, reader: Reader, seen: Seen) -> Content | Drop:
        if told.item is None:
            return NO_ITEM
        needs = self._parts.channels[message.channel].traits
        try:
            return self._parts.templates.render(
                message,
                told.item,
                bodies=needs.needs_bodies,
                unsubscribe=needs.needs_unsubscribe,
                reader=reader,
                actors=actors,
                others=told.others,
                seen=seen,
            )
        except TEMPLATE_ERRORS as error:
            return Drop("failed", f"the template failed: {error}", dead=True)


@dataclass(frozen=True)
class _Turn:
    """One drain of one shard, begun at `now` when the stopwatch showed `began_s`."""

    parts: Parts
    settings: DispatchSettings
    shard: int
    consumer: str
    now: float
    report: DrainReport
    stopwatch: Callable[[], float]
    began_s: float

    async def send(
        self,
        queue: Queue,
        way: Way,
        waves: asyncio.Semaphore,
        rows: Sequence[_Ready],
        underway: Underway,
        stopping: Callable[[], bool],
    ) -> None:
        """Send a queue's messages in waves of as many as its provider can have in hand, each settled before the next.

        Where a provider is down, one message tries; the rest go by another, or wait until one may be asked again and have used up no
        attempt. Behind a wave that took too long the rest is put back as well: there may be no end to it.
        """
        left, pace = deque(rows), Pace(self.stopwatch(), len(rows))
        with underway.queue(queue, pace), underway.holding([row.entry.entry_id for row in rows]):
            while left:
                async with waves:
                    chosen = None if stopping() or queue in underway.busy.slow else way.choose(self.now)
                    if chosen is None:
                        break
                    channel, breaker = chosen
                    tries = 1 if breaker.resting_until is not None else channel.traits.batch * channel.traits.concurrency
                    wave = [left.popleft() for _ in range(min(tries, len(left)))]
                    await self._wave(way, channel, breaker, wave, underway.patience(queue, self.settings.patience_s))
                    pace.did(len(wave))
            if left:
                await self.put_back(left, way.resting_until or self.now)

    async def put_back(self, rows: Iterable[_Ready], due_at: float) -> None:
        """Put messages aside until a time, or until they expire."""
        await asyncio.to_thread(self.settle, [], [Retry(row.entry, min(due_at, row.entry.message.deliver_by)) for row in rows])

    async def _wave(
        self, way: Way, channel: Channel, breaker: Breaker, wave: Sequence[_Ready], patience: AbstractContextManager[None]
    ) -> None:
        """Send one wave, let the circuit know how it went, and settle it."""
        wave = await asyncio.to_thread(self._in_time, wave)
        if not wave:
            return
        mine = wave if channel.traits.idempotent else await asyncio.to_thread(self._marked, wave)
        chunks = list(_chunks(mine, channel.traits.batch))
        calls = [channel.send([row.delivery for row in chunk]) for chunk in chunks]
        began = self.now + self.stopwatch() - self.began_s
        with patience:
            results = await asyncio.gather(*calls, return_exceptions=True)
        answered: list[tuple[_Ready, Answer]] = []
        for chunk, result in zip(chunks, results, strict=True):
            if isinstance(result, BaseException):
                breaker.record(down=True, now=self.now)
            else:
                answered += zip(chunk, result, strict=True)
        for down, run in groupby(is_down(answer) for _, answer in answered):
            for _ in run if down else (None,):  # one answer says as much as many in a row
                breaker.record(down=down, now=self.now)
        await asyncio.to_thread(self._answered, answered, began, elsewhere=way.has_another(channel))
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise BaseExceptionGroup(f"channel {channel.name}", failures)

    def _in_time(self, wave: Sequence[_Ready]) -> list[_Ready]:
        """Look again, the last thing before the provider is called: end what has expired, or was cancelled, while others were sent.

        What was switched off meanwhile is put back, and a digest that has lost some of its items, to be written anew.
        """
        now, off = self.now + self.stopwatch() - self.began_s, self.parts.off()
        names = list({name: None for row in wave for name in row.delivery.told})
        gone = {name for name, is_there in zip(names, self.parts.items.there(names), strict=True) if not is_there}
        kept: list[_Ready] = []
        ended: list[_Ended] = []
        waiting: list[Retry] = []
        for row in wave:
            if row.until <= now:
                ended.append(_Ended(Outcome(row.entry, EXPIRED.state, EXPIRED.reason), EXPIRED.refund))
            elif gone.issuperset(row.delivery.told):
                ended.append(_Ended(Outcome(row.entry, NO_ITEM.state, NO_ITEM.reason), NO_ITEM.refund))
            elif off and off & _names(row.entry.message, row.kind):
                waiting.append(Retry(row.entry, min(now + self.settings.off_s, row.entry.message.deliver_by)))
            elif gone.isdisjoint(row.delivery.told):
                kept.append(row)
            else:
                waiting.append(Retry(row.entry, self.now))
        self.settle(ended, waiting)
        return kept

    def _marked(self, wave: Sequence[_Ready]) -> list[_Ready]:
        granted = self.parts.outbox.attempt(self.shard, self.consumer, [row.entry for row in wave], self.now)
        return [row for row, mine in zip(wave, granted, strict=True) if mine]

    def _answered(self, answered: Sequence[tuple[_Ready, Answer]], began: float, *, elsewhere: bool) -> None:
        """Settle what was answered to calls begun at `began`; `elsewhere`: another provider could have taken it."""
        ended: list[_Ended] = []
        retries: list[Retry] = []
        for row, answer in answered:
            entry = row.entry.answered(began, "" if isinstance(answer, Accepted) else answer.reason)
            if isinstance(answer, Accepted):
                ended.append(_Ended(Outcome(entry, "accepted", provider_id=answer.provider_id)))
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

    def _judge(self, entry: Entry, answer: Unknown | Permanent | Transient, *, elsewhere: bool) -> _Ended | Retry:
        match answer:
            case Unknown(reason):
                return _Ended(Outcome(entry, "unknown", reason))
            case Permanent(reason):
                return _Ended(Outcome(entry, "failed", reason, dead=True))
            case Transient(reason, _, down=True) if elsewhere:
                return self._again(entry, reason, self.now)
            case Transient(reason, retry_after_s):
                return self._again(entry, reason, self.now + self.settings.backoff.wait_s(entry.attempts, retry_after_s))

    def _again(self, entry: Entry, reason: str, due_at: float) -> _Ended | Retry:
        if entry.attempts >= self.settings.backoff.max_attempts:
            return _Ended(Outcome(entry, "failed", f"gave up after {entry.attempts} attempts: {reason}", dead=True))
        if due_at >= entry.message.deliver_by:
            return _Ended(Outcome(entry, EXPIRED.state, f"no time left for another attempt: {reason}"), refund=True)
        return Retry(entry, due_at)

    def settle(self, ended: Sequence[_Ended], retries: Sequence[Retry]) -> None:
        """Record outcomes, put messages back, and give back the units of those whose outcome was the first."""
        if ended:
            first = self.parts.outbox.settle(self.shard, [each.outcome for each in ended], self.now)
            settled = [each for each, mine in zip(ended, first, strict=True) if mine]
            self.report.ended.update((each.outcome.entry.message.channel, each.outcome.state) for each in settled)
            self._refund([each.outcome.entry for each in settled if each.refund])
        if retries:
            self.report.retried += sum(self.parts.outbox.retry_later(self.shard, retries))

    def _refund(self, entries: Sequence[Entry]) -> None:
        if entries:
            given = [(entry.message.user_id, grant_id) for entry in entries for grant_id in entry.message.grant_ids]
            self.parts.refund([user for user, _ in given], np.array([int(grant_id, 16) for _, grant_id in given], np.uint64))


def _chunks(rows: Sequence[_Ready], size: int) -> Iterator[Sequence[_Ready]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
