"""The world played against the real pipeline: its offers are decided, committed and logged, its people answer through the real feedback.

Days pass one by one. Every user has one window a day, at the tick at which they are more active. What is simulated is what lies outside
of Tidings: who there is, what there is to tell, what the transport does, and how people answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from budgets.critical_quota import MemoryCriticalQuota
from budgets.experiments import Holdout
from delivery.feedback import Effects, EventRow, Feedback, MemoryEventLog, opened_grants
from delivery.suppression import MemorySuppressionStore, Suppression
from lake.decision_log import Entry
from lake.decisions import SEND, Candidates
from lake.ids import hash64
from lake.items import ItemTable, MemoryItemStore
from lake.messages import Message
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, blank
from lake.seen import MemorySeenStore
from scheduler.batch import Occasion
from scheduler.decide import DecideConfig
from scheduler.due import MemoryDueIndex
from scheduler.memory_commit import MemoryCommitter
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.scoring import Scorer
from scheduler.thresholds import MemoryThresholds
from scheduler.windows import SLOT_S
from simulation.offers import SOURCE, Boom, Offers, draw, item_rows, places
from simulation.response import Readers
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, TRANSPORTS, ResponseParameters

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHUNK = 2000
"""Users decided at once."""

DAY_SLOTS = DAY_S // SLOT_S
TICKS = np.array([8, 20]) * 3600
"""When windows open, seconds after midnight UTC."""


@dataclass(frozen=True)
class StageConfig:
    """How the world is played. `hard`: the ledger's limit per user, channel and rolling 7 days. `per_user`: candidates of one window.

    `top_n`: most sends of one window. `channels`: what the windows send on. `holdout`: who is sent nothing.
    """

    channels: tuple[str, ...] = ("in_app",)
    hard: int = 15
    per_user: int = 12
    top_n: int = 3
    holdout: Holdout = field(default_factory=Holdout)
    response: ResponseParameters = field(default_factory=ResponseParameters)


@dataclass
class Day:
    """What happened on one day. `sends`, `answered`: int16 (users, channels), by the day of the send; updates cost no
    budget and are not counted as sends. `active`: bool (users,).

    `joined`: engagements of that day, tapped or not, told of or not, int16 (users,); `joins`: of everybody. `opt_outs`: of users and
    channels. `value`: expected answers of the sends, readers tired as they are. `candidates`: rows decided. `log`: the decision log's
    entries.
    """

    at: float
    sends: npt.NDArray[np.int16]
    answered: npt.NDArray[np.int16]
    active: Bools
    joined: npt.NDArray[np.int16]
    opt_outs: int = 0
    value: float = 0.0
    candidates: int = 0
    log: list[Entry] = field(default_factory=list)

    @property
    def joins(self) -> int:
        """Engagements of everybody."""
        return int(self.joined.sum())


@dataclass
class Stage:
    """Plays `world` with a ranker. `dormant`: who began without a habit, (users,). `boom`: a topic that is on everybody's mind for some
    days. `down`: no offers reach the pipeline.
    """

    world: World
    ranker: Scorer
    config: StageConfig = field(default_factory=StageConfig)
    seed: int = 0
    boom: Boom | None = None
    down: bool = False
    thresholds: MemoryThresholds = field(default_factory=MemoryThresholds)
    _day: int = 0
    _pending: list[EventRow] = field(default_factory=list)
    _items: int = 0
    _joined: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        config, ids = self.config, self.world.people.ids.tolist()
        self.meta = Meta(shards=1, channels=config.channels)
        self.profiles, self.seen, self.items = MemoryProfileStore(), MemorySeenStore(), MemoryItemStore()
        self.profiles.put(ids, blank(len(ids)))
        self.committer = MemoryCommitter(self.meta, MemoryDueIndex(1))
        self.suppression = Suppression(MemorySuppressionStore(), self.profiles, self.meta)
        self.events = MemoryEventLog(1)
        self.feedback = Feedback(self.events, self.suppression, Effects(self._engaged, self._opened))
        rng = stream(self.seed, "readers")
        self.readers = Readers.of(self.world.people.visits_per_week, len(config.channels), config.response, rng)
        self.dormant = self.readers.habit == 0
        self.rng = stream(self.seed, "stage")
        decided = PipelineConfig(
            weekly=dict.fromkeys(config.channels, config.hard),
            addressless=config.channels,
            decide=DecideConfig(top_n=config.top_n),
            holdout=config.holdout,
        )
        self.pipeline = Pipeline(
            self.meta,
            self.profiles,
            ItemTable(self.items),
            self.seen,
            self.committer.ledger,
            self.ranker,
            self.committer,
            self.thresholds,
            config=decided,
        )
        self.committer.due.enroll(ids, self._first_slot + self.tick * (int(TICKS[1] - TICKS[0]) // SLOT_S))

    @cached_property
    def tick(self) -> Ints:
        """Which tick of the day is each user's window, (users,): the one in whose hours they are more active."""
        return favourite_ticks(self.world)

    @property
    def _first_slot(self) -> int:
        return int((self.world.params.start_at + TICKS[0]) // SLOT_S)

    @property
    def now(self) -> float:
        """Midnight before the next day to be played."""
        return self.world.params.start_at + self._day * DAY_S

    def branched(self) -> Stage:
        """Return a stage on which the same life can go on another way; only the world's truth is shared."""
        items = deepcopy(self.items)
        memo: dict[int, Any] = {id(self.world): self.world, id(self.items): items, id(self.pipeline.table): ItemTable(items)}
        memo[id(self.pipeline.critical_quota)] = MemoryCriticalQuota()  # nothing here is critical
        return deepcopy(self, memo)

    def heat(self, item_ids: Sequence[str], _now: float) -> Floats:
        """Return how many people joined each item lately, (n,)."""
        width = len(self.world.things.ids)
        return np.bincount(self._joined % width, minlength=width)[places(item_ids, "i")].astype(np.float64)

    def play_day(self) -> Day:
        """Let a day pass and return what happened."""
        users, channels = len(self.world.people.ids), len(self.config.channels)
        visiting = self.readers.visiting(self.rng)
        sends, answered = (np.zeros((users, channels), np.int16) for _ in range(2))
        day = Day(self.now, sends, answered, visiting, np.zeros(users, np.int16))
        for number, at in enumerate(TICKS):
            self._play_tick(self.now + float(at), np.flatnonzero(self.tick == number), visiting, day)
        self.readers.pass_day(day.active)
        day.log = self.committer.log.read(0, 1_000_000)
        self.committer.log.entries.clear()
        self._joined = self._joined[-20 * users :]
        self._day += 1
        return day

    def _play_tick(self, now: float, users: Ints, visiting: Bools, day: Day) -> None:
        self._put_items(now)
        self._answer(now)
        self.pipeline.table.sync(now)
        offers = draw(self.world, users, now, self.config.per_user, self.rng, self.boom)
        due, slots = self.committer.due.due(0, int(now // SLOT_S), len(self.world.people.ids))
        if not self.down:
            for start in range(0, len(due), CHUNK):
                self._decide(due[start : start + CHUNK], slots[start : start + CHUNK], offers, now, day)
        else:
            self.committer.due.enroll(due, slots + DAY_SLOTS)
        sent = self.committer.outbox.pop(0, [])
        self._deliver(sent, offers, now, day)
        self._browse(offers, visiting, now, day)

    def _decide(self, due: list[str], slots: Ints, offers: Offers, now: float, day: Day) -> None:
        rows = candidates_of(due, offers, self.world.people.ids, self.world.things.ids, len(self.config.channels))
        occasion = Occasion(
            lane="scheduled",
            window_id=slots.astype(np.int32),
            slot=slots,
            next_slot=slots + DAY_SLOTS,
            critical=np.zeros(1, bool),
            shard=0,
        )
        decided = self.pipeline.run(rows, [f"{slots[0]}-{due[0]}"], occasion, now)
        day.candidates += len(rows)
        assert int((decided.disposition == SEND).sum()) <= len(due) * self.config.top_n

    def _deliver(self, sent: list[Message], offers: Offers, now: float, day: Day) -> None:
        """Let the transport lose some of what was sent and people answer some of the rest, now or later."""
        if not sent:
            return
        user, item = places([each.user_id for each in sent], "u"), places([each.item_id for each in sent], "i")
        channel = np.array([self.config.channels.index(each.channel) for each in sent])
        np.add.at(day.sends, (user, channel), [not each.update for each in sent])
        chance = self._chance(offers, user, item, channel)
        lost, delay_s, spread = (
            np.array(column)[channel] for column in zip(*(TRANSPORTS[name] for name in self.config.channels), strict=True)
        )
        chance = self.readers.answers(np.where(self.readers.gone[user, channel], 0.0, chance * (1 - lost)), user)
        day.value += float(chance.sum())
        answered = self.rng.random(len(sent)) < chance
        np.add.at(day.answered, (user[answered], channel[answered]), 1)
        risk = self.readers.opt_out_risk(user)
        self.readers.told(user, answered)
        params = self.config.response
        wait_s = delay_s * self.rng.lognormal(0, spread) + params.delay_s * self.rng.lognormal(0, params.delay_spread, len(sent))
        leaves = ~answered & (self.rng.random(len(sent)) < risk)
        taps = self.rng.random(len(sent)) < params.taps
        for place in np.flatnonzero(answered | leaves).tolist():
            about: dict[str, Any] = {"user_id": sent[place].user_id, "at": now + float(wait_s[place])}
            if leaves[place]:
                self._pending.append(about | {"kind": "unsubscribe", "channel": sent[place].channel})
            else:
                tapped = {"send_id": sent[place].grant_id} if taps[place] else {}
                self._pending.append(about | {"kind": "join", "item_id": sent[place].item_id} | tapped)
        self.readers.gone[user[leaves], channel[leaves]] = True
        day.opt_outs += int(leaves.sum())
        day.active[user[answered]] = True
        self._join(user[answered], item[answered], day)

    def _chance(self, offers: Offers, user: Ints, item: Ints, channel: Ints) -> Floats:
        """Return the chance that a rested user answers what was sent of the offers, by how they like the channel."""
        width = len(self.world.things.ids)
        chance = offers.chance[np.searchsorted(offers.user * width + offers.item, user * width + item)]
        is_email = np.array([name == "email" for name in self.config.channels])[channel]
        liking = np.where(is_email, np.exp(self.world.people.email_odds[user]), 1.0)
        return chance * liking / (1 - chance + chance * liking)

    def _browse(self, offers: Offers, visiting: Bools, now: float, day: Day) -> None:
        """Let those who come by themselves join something that they see."""
        here = visiting[offers.user] & (self.rng.random(len(offers)) < offers.chance * self.config.response.browses)
        user, item = offers.user[here], offers.item[here]
        fresh = self._join(user, item, day)
        ids, names = self.world.people.ids, self.world.things.ids
        for person, thing in zip(ids[user[fresh]].tolist(), names[item[fresh]].tolist(), strict=True):
            self._pending.append({"user_id": person, "item_id": thing, "kind": "join", "at": now})

    def _join(self, user: Ints, item: Ints, day: Day) -> Bools:
        """Count joins, each pair of user and item once, and return which are new."""
        key = user * len(self.world.things.ids) + item
        fresh = ~np.isin(key, self._joined)
        self._joined = np.concatenate([self._joined, key[fresh]])
        np.add.at(day.joined, user[fresh], 1)
        return fresh

    def _answer(self, now: float) -> None:
        """Feed back what people did until now."""
        past = [row for row in self._pending if row["at"] <= now]
        self._pending = [row for row in self._pending if row["at"] > now]
        if past:
            self.feedback.accept(past, now)
            self.events.remove(0, [name for name, _ in self.events.read(0, len(past))])

    def _engaged(self, rows: Sequence[EventRow]) -> None:
        self.seen.add([row["user_id"] for row in rows], hash64([row["item_id"] for row in rows]))

    def _opened(self, rows: Sequence[EventRow]) -> None:
        users, grants = opened_grants(rows)
        self.committer.ledger.mark_opened(users, grants)

    def _put_items(self, now: float) -> None:
        last = int(np.searchsorted(self.world.things.created_at, now))
        if last > self._items:
            self.items.put(item_rows(self.world, self._items, last))
            self._items = last


def favourite_ticks(world: World) -> Ints:
    """Return which of TICKS each user is more active at, (users,)."""
    everyone = np.arange(len(world.people.ids))
    here = [world.hour_of_week(everyone, np.full(len(everyone), world.params.start_at + at)) for at in TICKS]
    hours = world.people.hours
    return (hours[everyone, here[1]] > hours[everyone, here[0]]).astype(np.int64)


def candidates_of(
    due: list[str], offers: Offers, users: npt.NDArray[np.object_], items: npt.NDArray[np.object_], channels: int
) -> Candidates:
    """Return the offers of the users that are due as the pipeline takes them, every one on every channel."""
    place = np.full(len(users), -1, np.int32)
    place[places(due, "u")] = np.arange(len(due))
    mine = np.flatnonzero(place[offers.user] >= 0)
    mine = mine[np.argsort(place[offers.user[mine]], kind="stable")]
    distinct, item = np.unique(offers.item[mine], return_inverse=True)
    return Candidates(
        users=due,
        items=items[distinct].tolist(),
        user=np.repeat(place[offers.user[mine]], channels),
        item=np.repeat(item.astype(np.int32), channels),
        channel=np.tile(np.arange(channels, dtype=np.uint8), len(mine)),
        source=np.zeros(len(mine) * channels, np.uint8),
        sources=(SOURCE,),
        request=np.zeros(len(mine) * channels, np.int32),
    )
