"""The decision log: every row of every decision, with what it was decided on.

A batch leaves the pipeline as one packed entry. The commit script appends it to the shard's stream in the same step that
grants and enqueues, so no grant lacks its log row. A drain turns entries into Parquet files afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from lake.decisions import DISPOSITIONS, REASONS, Decided
from lake.history import KEEP_DAYS, History
from lake.user_keys import UserKeys

TABLE = "decisions"

LOG_ROW = np.dtype(
    [
        ("user", "<u4"),
        ("item", "<u4"),
        ("request", "<u4"),
        ("channel", "u1"),
        ("source", "u1"),
        ("disposition", "u1"),
        ("reason", "u1"),
        ("allowance", "<i2"),
        ("probability", "<f4"),
        ("value", "<f4"),
        ("threshold", "<f4"),
        ("propensity", "<f4"),
        ("weight", "<f4"),
        ("grant_id", "<u8"),
    ]
)
"""One logged row. `user`, `item`, `request`: codes into the entry's own dictionaries. `weight`: 1 / its chance of being logged."""

LOG_COLUMNS = (
    *("at", "decision_id", "user_id", "item_id", "channel", "source", "lane", "disposition", "reason"),
    *("probability", "value", "threshold", "propensity", "allowance", "weight", "grant_id", "model_id"),
)
"""The columns of the log as it is read back."""


@dataclass(frozen=True)
class Entry:
    """One packed batch as read back: `blob` from `pack`, `final` the (disposition, reason) pairs of its committed rows."""

    id: str
    blob: bytes
    final: bytes


def pack(
    decided: Decided, channels: Sequence[str], rows: npt.NDArray[np.intp], committed: npt.NDArray[np.intp], weight: npt.NDArray[np.float32]
) -> bytes:
    """Return the given rows of a decision as one entry.

    `rows`: indices into `decided`, the rows to log. `committed`: places within `rows` of those the commit settles, in
    its order. `weight`: float32 (len(rows),).
    """
    users, user = np.unique(decided.candidates.user[rows], return_inverse=True)
    items, item = np.unique(decided.candidates.item[rows], return_inverse=True)
    requests, request = np.unique(decided.candidates.request[rows], return_inverse=True)
    table = np.empty(len(rows), LOG_ROW)
    table["user"], table["item"], table["request"], table["weight"] = user, item, request, weight
    table["channel"], table["source"] = decided.candidates.channel[rows], decided.candidates.source[rows]
    for name in ("disposition", "reason", "allowance", "probability", "value", "threshold", "propensity", "grant_id"):
        table[name] = getattr(decided, name)[rows]
    entry = {
        "users": [decided.candidates.users[code] for code in users.tolist()],
        "items": [decided.candidates.items[code] for code in items.tolist()],
        "decisions": [decided.decision_ids[code] for code in requests.tolist()],
        "channels": list(channels),
        "sources": list(decided.candidates.sources),
        "lane": decided.lane,
        "model": decided.model_id,
        "at": decided.at,
        "rows": table.tobytes(),
        "committed": committed.astype("<u4").tobytes(),
    }
    return bytes(msgpack.packb(entry))


def unpack(entry: Entry) -> pd.DataFrame:
    """Return the rows of one entry with their final dispositions; dictionary-encoded columns are categoricals."""
    packed = msgpack.unpackb(entry.blob)
    rows = np.frombuffer(packed["rows"], LOG_ROW).copy()
    final = np.frombuffer(entry.final, np.uint8).reshape(-1, 2)
    committed = np.frombuffer(packed["committed"], "<u4")[: len(final)]
    rows["disposition"][committed], rows["reason"][committed] = final[:, 0], final[:, 1]
    granted = np.isin(rows["disposition"], (0, 1)) & (rows["grant_id"] != 0)
    return pd.DataFrame(
        {
            "at": pd.to_datetime(np.full(len(rows), packed["at"] * 1e6, np.int64), unit="us", utc=True),
            "decision_id": np.array(packed["decisions"], object)[rows["request"]],
            "user_id": pd.Categorical.from_codes(rows["user"].astype(np.int64), pd.Index(packed["users"], dtype=object)),
            "item_id": pd.Categorical.from_codes(rows["item"].astype(np.int64), pd.Index(packed["items"], dtype=object)),
            "channel": np.array(packed["channels"], object)[rows["channel"]],
            "source": np.array(packed["sources"], object)[rows["source"]],
            "lane": packed["lane"],
            "disposition": np.array(DISPOSITIONS, object)[rows["disposition"]],
            "reason": np.array(REASONS, object)[rows["reason"]],
            **{name: rows[name] for name in ("probability", "value", "threshold", "propensity", "allowance", "weight")},
            "grant_id": np.where(granted, [f"{grant:016x}" for grant in rows["grant_id"].tolist()], ""),
            "model_id": packed["model"],
        }
    )


class DecisionStream(Protocol):
    """Entries of a shard that no file holds yet, oldest first."""

    def read(self, shard: int, count: int) -> list[Entry]:
        """Return up to `count` of the oldest entries, leaving them where they are."""
        ...

    def drop(self, shard: int, entries: Sequence[Entry]) -> None:
        """Remove entries that a file now holds."""
        ...


@dataclass
class MemoryDecisionStream:
    """Entries in lists, for tests and replay."""

    entries: dict[int, list[Entry]] = field(default_factory=dict)

    def append(self, shard: int, blob: bytes, final: bytes) -> None:
        """Append one entry, as the commit script does."""
        kept = self.entries.setdefault(shard, [])
        kept.append(Entry(f"{len(kept)}-{id(blob)}", blob, final))

    def read(self, shard: int, count: int) -> list[Entry]:
        """See DecisionStream."""
        return self.entries.get(shard, [])[:count]

    def drop(self, shard: int, entries: Sequence[Entry]) -> None:
        """See DecisionStream."""
        gone = {entry.id for entry in entries}
        self.entries[shard] = [entry for entry in self.entries.get(shard, []) if entry.id not in gone]


@dataclass(frozen=True)
class DecisionLog:
    """The whole log: recent entries from the streams, older rows from the files."""

    stream: DecisionStream
    history: History
    user_keys: UserKeys
    shards: int

    def drain(self, shard: int, *, count: int = 200) -> int:
        """Move up to `count` entries of a shard into Parquet files; returns the rows moved.

        The file is named after its first and last entry, so a drain that died before dropping them repeats itself.
        """
        entries = self.stream.read(shard, count)
        if not entries:
            return 0
        frame = pd.concat([unpack(entry) for entry in entries], ignore_index=True)
        users, codes = np.unique(frame.pop("user_id").astype(object), return_inverse=True)
        frame.insert(2, "user_key", np.array(self.user_keys.of(users.tolist()), object)[codes])
        frame["item_id"] = frame["item_id"].astype(object)
        self.history.write(TABLE, frame, at="at", shard=shard, name=f"{entries[0].id}_{entries[-1].id}")
        self.stream.drop(shard, entries)
        return len(frame)

    def find(
        self, now: float, *, user_id: str | None = None, decision_id: str | None = None, shard: int | None = None, limit: int = 1000
    ) -> pd.DataFrame:
        """Return the newest rows of a user or a decision, newest first, with `user_id` where it is known."""
        shards = range(self.shards) if shard is None else [shard]
        recent = [unpack(entry) for number in shards for entry in self.stream.read(number, 1000)]
        parts = [frame[_matches(frame, user_id, decision_id)] for frame in recent]
        parts.append(self._filed(now, user_id, decision_id))
        plain = [part.astype({"user_id": object, "item_id": object}) for part in parts if len(part)]
        found = pd.concat(plain or [_EMPTY], ignore_index=True).drop_duplicates(["decision_id", "user_id", "item_id", "channel"])
        return found.sort_values("at", ascending=False, kind="stable").head(limit)

    def _filed(self, now: float, user_id: str | None, decision_id: str | None) -> pd.DataFrame:
        where = None if decision_id is None else pc.field("decision_id") == decision_id
        if user_id is not None:
            key = self.user_keys.known([user_id])[0]
            if key is None:
                return _EMPTY
            mine = pc.field("user_key") == key
            where = mine if where is None else where & mine
        frame = self.history.read(TABLE, now - KEEP_DAYS * 86400, now + 86400, where=where)
        return frame.assign(user_id=user_id).drop(columns=["date", "shard"], errors="ignore")


_EMPTY = pd.DataFrame(columns=["at", "decision_id", "user_id", "item_id", "channel"])


def _matches(frame: pd.DataFrame, user_id: str | None, decision_id: str | None) -> pd.Series[bool]:
    kept = pd.Series(True, index=frame.index)
    if user_id is not None:
        kept &= frame["user_id"].astype(object) == user_id
    if decision_id is not None:
        kept &= frame["decision_id"] == decision_id
    return kept
