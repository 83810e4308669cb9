"""The two lanes. They differ in data only: who is proposed, and how long a row may wait."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lake.clock import Clock
from lake.decisions import DISPOSITIONS, REASONS, Candidates, Decided
from lake.follows import FollowStore
from lake.ids import topic_key
from lake.items import ItemRow
from lake.meanwhile import meanwhile
from lake.meta import Meta
from lake.profiles import Profiles
from scheduler.batch import Known, Occasion
from scheduler.commit import MAX_USERS
from scheduler.critical import Payer
from scheduler.due import DueIndex
from scheduler.full_digests import sorted_by_user, with_filled
from scheduler.gather import gather
from scheduler.held import HeldStore
from scheduler.pipeline import Pipeline
from scheduler.report import LaneReport, Recorder, unrecorded
from scheduler.sources import Source, UserChunk
from scheduler.windows import NO_SLOT, SLOT_S, next_slots_of, windows_due_of

CHUNK = 3 * MAX_USERS
"""Users decided together in the scheduled lane: a few commits' worth, to share the calls that cost the same for any number."""

LENT_S = 60.0
"""How long the new item of a dry run can be read."""

WEEK_SLOTS = 7 * 86400 // SLOT_S
"""A user left without windows is looked at again after a week."""


@dataclass
class ScheduledLane:
    """Decides the users of a shard whose windows are due. `channels`: codes of the channels it may use."""

    pipeline: Pipeline
    due: DueIndex
    sources: Sequence[Source]
    channels: Sequence[int]
    record: Recorder = unrecorded

    def run(self, shard: int, slot: int, fence: int, clock: Clock) -> LaneReport:
        """Decide every user of `shard` due at or before `slot`; a user decided here leaves the slot.

        Stops where the commit refuses the fence: another worker holds the shard. The due index is the only checkpoint,
        so a run that died is repeated by simply running again.
        """
        report = LaneReport(slot=slot)
        stale = False
        while not stale:
            users, slots = self.due.due(shard, slot, CHUNK)
            if not users:
                break
            now = clock.now()
            decided = self.decide(shard, users, slots, fence, now)
            stale = decided.stale
            report.count(decided)
            report.late_s = max(report.late_s, now - int(slots.min()) * SLOT_S)
        self.record("scheduled", report)
        return report

    def rehearse(self, users: list[str], now: float) -> Decided:
        """Return what would be decided for users if their window opened now; nothing but the log hears of it."""
        known = in_step(self.pipeline, users, now)
        nothing = np.full(len(users), NO_SLOT)
        occasion = Occasion(
            lane="scheduled",
            window_id=nothing.astype(np.int32),
            slot=nothing.astype(np.int64),
            next_slot=next_slots_of(known.profiles, now, known.times)[0],
            critical=np.zeros(1, bool),
            dry=True,
        )
        candidates = gather(UserChunk(users), self.sources, self.pipeline.table, self.channels, now)
        return self.pipeline.run(candidates, [secrets.token_hex(16)], occasion, now, known)

    def decide(self, shard: int, users: list[str], slots: npt.NDArray[np.int64], fence: int, now: float) -> Decided:
        """Decide one chunk of due users."""
        known = in_step(self.pipeline, users, now)
        profiles = known.profiles
        window_id = windows_at(profiles, slots)
        opened = np.maximum(now, slots * float(SLOT_S))  # the clock may have been set back since
        next_slot, _ = next_slots_of(profiles, opened, known.times)
        candidates = gather(UserChunk(users, profiles), self.sources, self.pipeline.table, self.channels, now)
        occasion = Occasion(
            lane="scheduled",
            window_id=window_id,
            slot=slots,
            next_slot=np.where(next_slot == NO_SLOT, int(now // SLOT_S) + WEEK_SLOTS, next_slot),
            critical=np.zeros(1, bool),
            shard=shard,
            fence=fence,
        )
        due_now = candidates.take(window_id[candidates.user] != NO_SLOT)
        return self.pipeline.run(due_now, [secrets.token_hex(8)], occasion, now, known)


def in_step(pipeline: Pipeline, users: list[str], now: float) -> Known:
    """Bring the item table in step with the store, and return what is known of users; all of it is read at once."""
    syncing = meanwhile(lambda: pipeline.table.sync(now))
    known = pipeline.known(users)
    syncing.result()
    return known


def windows_at(profiles: Profiles, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the window that opened at each user's own slot, NO_SLOT where the user's windows have changed since."""
    window_id = np.full(len(slots), NO_SLOT, np.int32)
    for slot in np.unique(slots).tolist():
        same = slots == slot
        window_id[same] = windows_due_of(profiles[same], slot)
    return window_id


@dataclass(frozen=True)
class UrgentRequest:
    """One urgent item and whom to tell.

    `item`: its row where it is new, else None; without `created_at` it came to be when it is decided. `key_id`: the API
    key that asked. `critical_quota`: critical rows that key may cause per UTC day, None: the deployment's.
    `dry_run`: decide and log, and do nothing else.
    """

    item: ItemRow | None
    item_id: str
    users: list[str]
    channels: tuple[str, ...]
    critical: bool
    key_id: str
    decision_id: str
    critical_quota: int | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class UrgentResult:
    """The decided rows of one request, as columns.

    `dry_run`: nothing was granted, enqueued or held. `model_id`: what scored, "" where nothing had to.
    """

    decision_id: str
    user_id: list[str]
    channel: list[str]
    disposition: list[str]
    score: list[float | None]
    threshold: list[float | None]
    reason: list[str]
    dry_run: bool = False
    model_id: str = ""


@dataclass
class UrgentLane:
    """Decides urgent requests, many at once: a burst costs one ranker call and one round trip per shard."""

    pipeline: Pipeline
    follows: FollowStore
    held: HeldStore
    record: Recorder = unrecorded

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        """Decide every user of every request; results come back in the order of the requests.

        A dry run is decided by itself, for what it would send must not stand in the way of anything real.
        """
        real = [request for request in requests if not request.dry_run]
        decided = iter(self._decide(real, now) if real else [])
        return [self._rehearse(request, now) if request.dry_run else next(decided) for request in requests]

    def _rehearse(self, request: UrgentRequest, now: float) -> UrgentResult:
        """Decide a dry run: on its item as it is known or else, for this once, as it was given."""
        table = self.pipeline.table
        table.sync(now)
        item = request.item
        if item is not None and int(table.with_missing([request.item_id])[1][0]) < 0:
            # Under an id of its own no other request finds it; its entity tells what it would be an update or a repeat of.
            borrowed = f"{request.item_id} (dry run {request.decision_id[:8]})"
            table.store.lend([{"created_at": now, "entity_id": request.item_id, **item, "item_id": borrowed}], LENT_S)
            request = replace(request, item_id=borrowed)
        return self._decide([replace(request, item=None)], now)[0]

    def _decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        """Decide requests together: real ones, or a single dry run."""
        if rows := [request.item for request in requests if request.item is not None]:
            self.pipeline.table.store.put(self._dated(rows, now))
        pipeline = self.pipeline
        candidates, order = candidates_of(requests, pipeline.meta)
        known = in_step(pipeline, candidates.users, now)
        critical = np.array([request.critical for request in requests], bool)
        filled = with_filled(candidates, critical, self.held, pipeline.table, pipeline.config.digests, now)
        candidates, order = sorted_by_user(filled, order)
        occasion = Occasion(
            lane="urgent",
            window_id=np.full(len(candidates.users), -1, np.int32),
            slot=np.full(len(candidates.users), -1, np.int64),
            next_slot=next_slots_of(known.profiles, now, known.times)[0],
            critical=critical,
            payers=[Payer(request.key_id, request.critical_quota) for request in requests],
            dry=requests[0].dry_run,
        )
        decided = self.pipeline.run(candidates, [request.decision_id for request in requests], occasion, now, known)
        if not decided.dry:
            report = LaneReport()
            report.count(decided)
            self.record("urgent", report)
        return results_of(requests, decided, order, self.pipeline.meta)

    def _dated(self, rows: list[ItemRow], now: float) -> list[ItemRow]:
        """Return rows with the time they came to be: now, if it is not given and the item has not been heard of."""
        undated = [row["item_id"] for row in rows if "created_at" not in row]
        if not undated:
            return rows
        # From the store where the table lacks one: another gateway may have put it, or this one since the table was last looked at.
        known, places = self.pipeline.table.with_missing(undated)
        began = {name: float(known.created_at[place]) for name, place in zip(undated, places.tolist(), strict=True) if place >= 0}
        return [{"created_at": began.get(row["item_id"], now), **row} for row in rows]

    def audience(self, topic: str, limit: int) -> list[str]:
        """Return the followers of a topic, at most `limit` + 1 of them, so that a caller can tell there are more."""
        found: dict[str, None] = {}
        for page in self.follower_pages(topic):
            found.update(dict.fromkeys(page))
            if len(found) > limit:
                break
        return list(found)[: limit + 1]

    def follower_pages(self, topic: str) -> Iterator[list[str]]:
        """Yield the followers of a topic, shard by shard, in pages."""
        key = int(topic_key([topic])[0])
        for shard in range(self.pipeline.meta.shards):
            yield from self.follows.followers(shard, key)


def candidates_of(requests: Sequence[UrgentRequest], meta: Meta) -> tuple[Candidates, npt.NDArray[np.intp]]:
    """Return the rows of all requests sorted by user, and their order: row i of the result is row `order[i]` as asked.

    As asked, rows go request by request, user by user, channel by channel.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    codes = [users.setdefault(user, len(users)) for request in requests for user in request.users]
    item = [items.setdefault(request.item_id, len(items)) for request in requests]
    channels = [meta.channel_codes(request.channels) for request in requests]
    width = np.array([len(codes) for codes in channels])
    size = np.array([len(request.users) for request in requests])
    request = np.repeat(np.arange(len(requests), dtype=np.int32), size * width)
    user = np.repeat(np.array(codes, np.int32), np.repeat(width, size))
    channel = np.concatenate([np.tile(np.array(codes, np.uint8), n) for codes, n in zip(channels, size.tolist(), strict=True)])
    order = np.argsort(user, kind="stable")
    rows = Candidates(
        users=list(users),
        items=list(items),
        user=user[order],
        item=np.array(item, np.int32)[request][order],
        channel=channel[order],
        source=np.zeros(len(user), np.uint8),
        sources=("urgent",),
        request=request[order],
    )
    return rows, order


_DISPOSITION_NAMES = np.array(DISPOSITIONS, object)
_REASON_NAMES = np.array(REASONS, object)


def results_of(requests: Sequence[UrgentRequest], decided: Decided, order: npt.NDArray[np.intp], meta: Meta) -> list[UrgentResult]:
    """Return the decided rows of each request, in the order they were asked; held rows that were decided with them are not among them."""
    sizes = [len(request.users) * len(request.channels) for request in requests]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    asked = place[: sum(sizes)]
    rows = decided.candidates
    user = np.array(rows.users, object)[rows.user[asked]].tolist()
    channel = np.array(meta.channels, object)[rows.channel[asked]].tolist()
    disposition = _DISPOSITION_NAMES[decided.disposition[asked]].tolist()
    reason = _REASON_NAMES[decided.reason[asked]].tolist()
    score, threshold = _or_none(decided.value[asked]), _or_none(decided.threshold[asked])
    ends = np.cumsum(sizes).tolist()
    spans = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [
        UrgentResult(
            asked_for.decision_id,
            user[span],
            channel[span],
            disposition[span],
            score[span],
            threshold[span],
            reason[span],
            decided.dry,
            decided.model_id,
        )
        for asked_for, span in zip(requests, spans, strict=True)
    ]


def _or_none(values: npt.NDArray[np.float32]) -> list[float | None]:
    rounded = np.round(values.astype(np.float64), 6).astype(object)
    rounded[np.isnan(values)] = None
    return list(rounded.tolist())
