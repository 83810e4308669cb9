"""What comes back: opens, clicks, visits and unsubscribes, each counted once, kept for history and acted on at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from delivery.links import LinkToken, Purpose
from delivery.reports import Report
from delivery.suppression import Suppression
from lake.ids import Keys64, shard_of
from lake.kinds import NO_ENGAGEMENT
from lake.mixed_columns import uniform

EventRow = Mapping[str, Any]
"""One checked `events` row as plain values: `user_id`, `kind`, `at` (epoch seconds) and the optional columns that are given."""

OPENED = frozenset({"open", "click", "join"})
"""The kinds that show that a notification was seen; from then on an update of it is a new notification."""

UNDELIVERABLE = {"bounce": "bounced", "complaint": "complained"}
"""The kinds after which an address is left alone, and the reason that is recorded."""

_GRANT_ID = re.compile("[0-9a-f]{16}")
_LINK_KINDS: dict[Purpose, str] = {"open": "open", "click": "click", "unsubscribe": "unsubscribe"}


class EventLog(Protocol):
    """The durable feed of events, one per shard. One round trip per shard and call."""

    def append(self, rows: Sequence[EventRow], token: str, now: float) -> list[bool]:
        """Append events, False where the `event_id` came before; calling again with the same `token` gives the same answer."""
        ...

    def read(self, shard: int, count: int) -> list[tuple[str, EventRow]]:
        """Return at most `count` events with their ids, oldest first."""
        ...

    def remove(self, shard: int, names: Sequence[str]) -> None:
        """Forget events that have been written elsewhere."""
        ...


@dataclass(frozen=True)
class Effects:
    """What events change beyond this package; each callable gets whole batches of rows and may do nothing.

    `record_engagement`: of rows that name an item and count as engagement; `mark_opened`: of those that show that a send was seen.
    """

    record_engagement: Callable[[Sequence[EventRow]], None]
    mark_opened: Callable[[Sequence[EventRow]], None]


def _nothing(rows: Sequence[EventRow]) -> None:
    del rows


NO_EFFECTS = Effects(_nothing, _nothing)


def channel_of(row: EventRow) -> str:
    """Return the channel of a bounce or a complaint; raises ValueError where it names none."""
    if row.get("channel") is None:
        raise ValueError(f"a {row['kind']} must name the channel whose address it is about")
    return str(row["channel"])


def opened_grants(rows: Sequence[EventRow]) -> tuple[list[str], Keys64]:
    """Return the users and grant ids (uint64) of rows with a `send_id`, as the ledger takes them; ids that are none are left out."""
    pairs = [(row["user_id"], int(row["send_id"], 16)) for row in rows if _GRANT_ID.fullmatch(str(row.get("send_id")))]
    return [user for user, _ in pairs], np.array([grant for _, grant in pairs], np.uint64)


@dataclass(frozen=True)
class FeedbackCounts:
    """What became of a batch of events."""

    accepted: int
    duplicates: int
    unsubscribed: int


@dataclass(frozen=True)
class Feedback:
    """Takes events in and lets them act: item counts, last visits, opened grants, suppression."""

    log: EventLog
    suppression: Suppression
    effects: Effects = NO_EFFECTS

    def accept(self, rows: Sequence[EventRow], now: float) -> FeedbackCounts:
        """Record checked events and act on the new ones; a row with an `event_id` seen before is not counted again.

        Unsubscribes, bounces and complaints act before they are recorded: after a crash in between, the retry finds them not recorded.
        An `address` that one of the latter two names is not kept. Raises ValueError, before anything is changed, where one names a
        channel the store does not know, or a bounce or complaint none.
        """
        unsubscribes = [row for row in rows if row["kind"] == "unsubscribe"]
        undeliverable = [row for row in rows if row["kind"] in UNDELIVERABLE]
        named = [row["channel"] for row in unsubscribes if row.get("channel") is not None]
        self.suppression.meta.channel_codes([*named, *(channel_of(row) for row in undeliverable)])
        for row in unsubscribes:
            self.suppression.unsubscribe(row["user_id"], row.get("channel"), row.get("source", "event"), now)
        for row in undeliverable:
            self._leave_alone(row, now)
        if undeliverable:
            rows = [{name: value for name, value in row.items() if name != "address"} for row in rows]
        fresh = [row for row, new in zip(rows, self.log.append(rows, uuid.uuid4().hex, now), strict=True) if new]
        self._act(fresh)
        unsubscribed = sum(row["kind"] == "unsubscribe" for row in fresh)
        return FeedbackCounts(len(fresh), len(rows) - len(fresh), unsubscribed)

    def accept_link(self, token: LinkToken, now: float) -> FeedbackCounts:
        """Record that a signed link was followed; the same link counts once, and so does each item of a digest."""
        kind = _LINK_KINDS[token.purpose]
        what = f"{token.grant_id}:{token.item_id}" if kind == "click" else token.grant_id
        row: dict[str, Any] = {
            "user_id": token.user_id,
            "kind": kind,
            "at": now,
            "channel": token.channel,
            "source": "link",
            "send_id": token.grant_id,
            "event_id": f"link:{kind}:{what}",
        }
        if token.item_id:
            row["item_id"] = token.item_id
        return self.accept([row], now)

    def accept_report(self, report: Report, now: float) -> FeedbackCounts:
        """Record what a carrier reported of a message; the same report counts once.

        Where it names another address than the user's of today, that one is what bounced, and nothing is suppressed.
        """
        row: dict[str, Any] = {
            "user_id": report.user_id,
            "kind": report.kind,
            "at": now,
            "channel": report.channel,
            "source": "report",
            "send_id": report.grant_id,
            "event_id": f"report:{report.kind}:{report.grant_id}",
        }
        if report.kind in UNDELIVERABLE:
            row["address"] = report.address
        return self.accept([row], now)

    def _leave_alone(self, row: EventRow, now: float) -> None:
        """Suppress the address that bounced; whoever complains gets nothing more on the channel either."""
        user_id, channel, reason = row["user_id"], row["channel"], UNDELIVERABLE[row["kind"]]
        source = row.get("source", "event")
        if row["kind"] == "complaint":
            self.suppression.unsubscribe(user_id, channel, source, now, reason)
        current = self.suppression.profiles.addresses([user_id])[0].get(channel)
        if current and row.get("address") in (None, "", current):
            self.suppression.suppress_address(channel, current, reason, source, now)

    def _act(self, fresh: Sequence[EventRow]) -> None:
        for effect, chosen in (
            (self.effects.record_engagement, [row for row in fresh if row.get("item_id") and row["kind"] not in NO_ENGAGEMENT]),
            (self.effects.mark_opened, [row for row in fresh if row.get("send_id") is not None and row["kind"] in OPENED]),
        ):
            if chosen:
                effect(chosen)


Sink = Callable[[pd.DataFrame, int, str, str], object]
"""Writes a frame of the events table of a shard, given the ids of its first and last event, as lake.history.History.file does."""


def drain_events(log: EventLog, shard: int, sink: Sink, count: int = 10_000) -> int:
    """Move at most `count` events of a shard to `sink` and return how many.

    After a crash between writing and forgetting the same events come again, and perhaps more behind them: the sink keeps nothing twice.
    """
    entries = log.read(shard, count)
    if not entries:
        return 0
    frame = pd.DataFrame([dict(row) for _, row in entries])
    frame["at"] = pd.to_datetime(frame["at"], unit="s", utc=True)
    # Every file has the column, so that whichever is read first, what was done with a message is found.
    frame["send_id"] = frame["send_id"].astype("string") if "send_id" in frame else pd.Series(pd.NA, frame.index, "string")
    sink(uniform(frame), shard, entries[0][0], entries[-1][0])
    log.remove(shard, [name for name, _ in entries])
    return len(entries)


@dataclass
class MemoryEventLog:
    """Events in lists, for tests and replay."""

    shards: int
    _feeds: dict[int, dict[str, EventRow]] = field(default_factory=dict)
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)
    _ids: int = 0

    def append(self, rows: Sequence[EventRow], token: str, now: float) -> list[bool]:
        """See EventLog."""
        del now
        return [self._append(row, f"{token}:{place}") for place, row in enumerate(rows)]

    def read(self, shard: int, count: int) -> list[tuple[str, EventRow]]:
        """See EventLog."""
        return list(self._feeds.get(shard, {}).items())[:count]

    def remove(self, shard: int, names: Sequence[str]) -> None:
        """See EventLog."""
        for name in names:
            self._feeds.get(shard, {}).pop(name, None)

    def _append(self, row: EventRow, claim: str) -> bool:
        identity = (row["user_id"], row.get("event_id") or claim)
        claimed_before = identity in self._seen
        if self._seen.setdefault(identity, claim) != claim:
            return False
        if not claimed_before:
            self._ids += 1
            self._feeds.setdefault(shard_of(row["user_id"], self.shards), {})[f"{self._ids}-0"] = row
        return True
