"""Everything that is held about one user, as one document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from budgets.ledger import CRITICAL, OPENED, UPDATED, Ledger, used
from delivery.feedback import EventLog
from delivery.inbox import Inbox
from delivery.outbox import Outbox
from delivery.suppression import SuppressionStore, address_digest
from gateway.belongings import MOST_ROWS, Belongings
from gateway.user_rows import UserRows
from lake.decision_log import DecisionLog
from lake.follows import FollowStore, followers_of
from lake.history import History
from lake.ids import shard_of
from lake.meta import Meta
from lake.profiles import DEFAULT_BUDGET, KNOWN, NO_OFFSET, NO_WINDOW, Profiles, ProfileStore, without_guesses
from lake.seen import SeenStore
from ranking.blocks import USER_STATS, Lists
from ranking.store import FeatureStore
from scheduler.due import NOT_IN, DueIndex
from scheduler.held import HeldStore
from scheduler.thresholds import Thresholds
from scheduler.windows import SLOT_S

PAGE = 10_000
EVERY = 10_000_000
TIMES = frozenset({"at", "created_at", "expires_at", "granted_at", "deliver_by"})
"""Columns of our own that hold seconds; what an application calls `synced_at` may be anything, and is told as it came."""
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class UserExport:
    """Reads a user out of every store. Each call walks through the user's shard and the history: for rare work."""

    meta: Meta
    profiles: ProfileStore
    rows: UserRows
    follows: FollowStore
    suppressions: SuppressionStore
    ledger: Ledger
    inbox: Inbox
    held: HeldStore
    seen: SeenStore
    due: DueIndex
    features: FeatureStore
    thresholds: Thresholds
    outbox: Outbox
    events: EventLog
    log: DecisionLog
    belongings: Belongings

    def __call__(self, user_id: str, now: float) -> dict[str, Any] | None:
        """Return what is held about a user, as plain values of JSON; None where that is nothing.

        Times are ISO 8601, ids of grants and keys of things 16 hex digits.
        """
        found = {
            **self._said(user_id),
            **self._counted(user_id, now),
            **self._delivered(user_id),
            **self._happened(user_id, now),
            "items_of_their_own": self._items(user_id, now),
        }
        if not any(found.values()):
            return None
        return {"user_id": user_id, "exported_at": _iso(now), **found}

    def _said(self, user_id: str) -> dict[str, Any]:
        """Return what the user, or the application for them, has told us."""
        profile, followed = self.profiles.get([user_id]), self.follows.get([user_id])[0]
        addresses = self.profiles.addresses([user_id])[0]
        return {
            "profile": self._profile(profile) if profile["flags"][0] & KNOWN else None,
            "row": _plain(self.rows.get(user_id) or {}),
            "preferences": self.profiles.preferences([user_id])[0],
            "follows": {"topics": followed.topics, "authors": followed.authors} if followed.topics or followed.authors else None,
            "followers": len(followers_of(self.follows, self.meta.shards, user_id)),
            "addresses": addresses,
            "suppressions": self._suppressions(user_id, addresses),
        }

    def _profile(self, profile: Profiles) -> dict[str, Any]:
        row, names = without_guesses(profile)[0], self.meta.channels
        shares = dict(zip(row["windows"].tolist(), row["window_share"].tolist(), strict=True))

        def channels(mask: int) -> list[str]:
            return [name for code, name in enumerate(names) if mask >> code & 1]

        return {
            "timezone": row["zone"].decode() or None,
            "utc_offset_minutes": None if row["utc_offset_minutes"] == NO_OFFSET else int(row["utc_offset_minutes"]),
            "created_at": _iso(float(row["created_at"])) if row["created_at"] else None,
            "dial": int(row["dial"]),
            "quiet_from_minute": None if row["quiet_from"] < 0 else int(row["quiet_from"]),
            "quiet_to_minute": None if row["quiet_to"] < 0 else int(row["quiet_to"]),
            "not_allowed": channels(int(row["not_allowed"])),
            "suppressed": channels(int(row["suppressed"])),
            "addressed": channels(int(row["addressed"])),
            "weekly": {name: int(n) for name, n in zip(names, row["budget"], strict=False) if n != DEFAULT_BUDGET},
            "windows": [{"local": _quarter(window), "share": share} for window, share in shares.items() if window != NO_WINDOW],
        }

    def _suppressions(self, user_id: str, addresses: Mapping[str, str]) -> list[dict[str, Any]]:
        found = [{"channel": channel, **_plain(record.as_row())} for channel, record in self.suppressions.of_users([user_id])[0].items()]
        records = self.suppressions.of_addresses([address_digest(channel, address) for channel, address in addresses.items()])
        for (channel, address), record in zip(addresses.items(), records, strict=True):
            if record is not None:
                found.append({"channel": channel, "address": address, **_plain(record.as_row())})
        return found

    def _counted(self, user_id: str, now: float) -> dict[str, Any]:
        """Return what has been worked out about the user: budget, windows, thresholds, features."""
        shard = np.array([shard_of(user_id, self.meta.shards)])
        slot = int(self.due.slots([user_id])[0])
        own = self.thresholds.own([user_id], shard, now)
        thresholds = {} if own is None else {name: float(n) for name, n in zip(self.meta.channels, own[0], strict=False) if np.isfinite(n)}
        held = [asdict(row) | {"channel": self.meta.channels[row.channel]} for row in self.held.read([user_id])[0]]
        return {
            "budget": self._budget(user_id, now),
            "next_window_at": None if slot == NOT_IN else _iso(slot * SLOT_S),
            "thresholds": thresholds,
            "held": [_plain(row) for row in held],
            "seen_items": [f"{key:016x}" for key in self.seen.of([user_id]).keys.tolist()],
            "features": self._features(user_id),
        }

    def _budget(self, user_id: str, now: float) -> dict[str, Any] | None:
        grants = self.ledger.read([user_id])
        if not len(grants):
            return None
        spent = used(grants, 1, len(self.meta.channels), now)[0]
        rows = zip(grants.at, grants.grant_id, grants.entity, grants.version, grants.channel, grants.flags, strict=True)
        return {
            "used_7d": {name: int(n) for name, n in zip(self.meta.channels, spent, strict=True) if n},
            "grants": [
                {
                    "at": _iso(float(at)),
                    "channel": self.meta.channels[channel],
                    "grant_id": f"{grant:016x}",
                    "entity": f"{entity:016x}",
                    "version": int(version),
                    "opened": bool(flags & OPENED),
                    "critical": bool(flags & CRITICAL),
                    "updated": bool(flags & UPDATED),
                }
                for at, grant, entity, version, channel, flags in rows
            ],
        }

    def _features(self, user_id: str) -> dict[str, Any] | None:
        found = self.features.get([user_id], [])
        if not found.known[0]:
            return None
        user = found.users
        return {
            "as_of": _iso(float(user.as_of[0])),
            "stats": dict(zip(USER_STATS, map(_number, user.stats[0]), strict=True)),
            "vector": [_number(n) for n in user.vector[0]],
            "authors": _affinities(user.authors),
            "topics": _affinities(user.topics),
        }

    def _delivered(self, user_id: str) -> dict[str, Any]:
        """Return what is on its way, what has arrived, and what could not."""
        shard = shard_of(user_id, self.meta.shards)
        letters = [letter for letter in self.outbox.dead(shard, EVERY) if letter.message and letter.message.user_id == user_id]
        return {
            "inbox": [_plain(asdict(entry)) for entry in self.inbox.latest(user_id, EVERY)],
            "on_their_way": [_plain(vars(message)) for message in self.outbox.waiting(shard) if message.user_id == user_id],
            "outcomes": list(self._outcomes(user_id, shard)),
            "dead_letters": [
                {"reason": letter.reason, "attempts": letter.attempts, "at": _iso(letter.at), "message": _plain(vars(letter.message))}
                for letter in letters
            ],
        }

    def _outcomes(self, user_id: str, shard: int) -> Iterator[dict[str, Any]]:
        after = ""
        while page := self.outbox.outcomes(shard, after, PAGE):
            after = page[-1][0]
            for _, record in page:
                if record.user_id == user_id:
                    yield _plain(asdict(record)) | {"tried": [_plain(attempt._asdict()) for attempt in record.tried]}

    def _happened(self, user_id: str, now: float) -> dict[str, Any]:
        """Return what was decided about the user and what they did: what waits to be filed, and what the history holds."""
        shard = shard_of(user_id, self.meta.shards)
        key = self.log.user_keys.known([user_id])[0]
        waiting = [_plain(row) for _, row in self.events.read(shard, EVERY) if row["user_id"] == user_id]
        decisions = self.log.find(now, user_id=user_id, shard=shard, limit=MOST_ROWS)
        filed: list[dict[str, Any]] = []
        if key is not None:
            filed = _records(filed_events(self.log.history, key, shard, now))
        return {"decisions": _records(decisions), "events": [*filed, *waiting]}

    def _items(self, user_id: str, now: float) -> list[dict[str, Any]]:
        found = {row["item_id"]: row for row in [*self.belongings.made_by(user_id), *self.belongings.told_only(user_id, now)]}
        return [_plain(row) for row in found.values()]


def filed_events(history: History, user_key: str, shard: int, now: float) -> pd.DataFrame:
    """Return every event that the history holds under a user's random key, with all columns that any file has."""
    schema = history.schema("events", shard)
    if not len(schema):
        return pd.DataFrame()
    where = (pc.field("user_key") == user_key) & (pc.field("shard") == shard)
    return history.read("events", 0.0, now + 86400, where=where, schema=schema)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, without what is not there."""
    shown = frame.drop(columns=["date", "shard", "user_key"], errors="ignore")
    return [_plain({str(name): value for name, value in row.items() if _there(value)}) for row in shown.to_dict("records")]


def _there(value: Any) -> bool:
    return bool(np.all(pd.notna(value)))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its times as text and its numbers as JSON has them."""
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, float | int | np.number) and not isinstance(value, bool):
        return _iso(float(value)) if name in TIMES and np.isfinite(value) else _number(value)
    return value


def _number(value: Any) -> float | int | None:
    number = value.item() if isinstance(value, np.generic) else value
    return number if np.isfinite(number) else None


def _affinities(lists: Lists) -> list[dict[str, Any]]:
    keys: Iterable[int] = lists.key.tolist()
    return [{"key": f"{key:016x}", "values": [_number(n) for n in values]} for key, values in zip(keys, lists.values, strict=True)]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _quarter(window: int) -> str:
    day, quarter = divmod(window, 96)
    return f"{DAYS[day % 7]} {quarter // 4:02}:{quarter % 4 * 15:02}"
