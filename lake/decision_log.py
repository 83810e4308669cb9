"""The decision log: every row of every decision, with what it was decided on.

A batch leaves the pipeline as one packed entry. The commit script appends it to the shard's stream in the same step that
grants and enqueues, so no grant lacks its log row. A drain turns entries into Parquet files afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import msgpack
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from lake.decisions import DIGEST, DISPOSITIONS, REASONS, SEND, UPDATE, Decided, is_any
from lake.history import KEEP_DAYS, History
from lake.user_keys import UserKeys, keyed

TABLE = "decisions"
DRY_TABLE = "dry_decisions"
"""Dry rows are filed apart, so that nobody who learns from decisions takes them for real ones."""

PAGE = 1_000
"""Entries that are read and unpacked at a time."""

Rows = npt.NDArray[Any]

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
"""One logged row, as it is read back; an entry holds columns. `user`, `item`, `request`: codes into the entry's own
dictionaries. `weight`: 1 / its chance of being logged."""

_DECIDED = ("disposition", "reason", "allowance", "probability", "value", "threshold", "propensity")

LOG_COLUMNS = (
    *("at", "decision_id", "user_id", "item_id", "channel", "source", "lane", "disposition", "reason"),
    *("probability", "value", "threshold", "propensity", "allowance", "weight", "grant_id", "model_id", "dry"),
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
    return pack_parts(decided, channels, rows, np.array([0, len(rows)]), [committed], weight)[0]


def pack_parts(
    decided: Decided,
    channels: Sequence[str],
    rows: npt.NDArray[np.intp],
    cuts: npt.NDArray[np.intp],
    committed: Sequence[npt.NDArray[np.intp]],
    weight: npt.NDArray[np.float32],
) -> list[bytes]:
    """Return rows of a decision as one entry per part: part i logs `rows[cuts[i]:cuts[i + 1]]`.

    `committed`: per part, places within its rows of those the commit settles, in its order. `weight`: float32 (len(rows),).
    What can be done for all parts at once is: an urgent decision has a part for every shard, each of a few rows.
    """
    given, part = decided.candidates, np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    users, user = _recoded(given.user[rows], part, len(committed), given.users)
    items, item = _recoded(given.item[rows], part, len(committed), given.items)
    decisions, request = _recoded(given.request[rows], part, len(committed), decided.decision_ids)
    columns = {
        "user": user,
        "item": item,
        "request": request,
        "channel": given.channel[rows],
        "source": given.source[rows],
        "weight": weight,
    }
    packed = {name: _pack_column(values, cuts) for name, values in columns.items()}
    packed |= {name: _pack_column(getattr(decided, name)[rows], cuts) for name in _DECIDED}
    granted = np.flatnonzero(decided.grant_id[rows])
    grants = np.searchsorted(granted, cuts).tolist()
    grant_id = decided.grant_id[rows[granted]].astype("<u8")
    shared = {"channels": list(channels), "sources": list(given.sources), "lane": decided.lane, "model": decided.model_id, "at": decided.at}
    shared |= {"dry": True} if decided.dry else {}
    packer = msgpack.Packer()
    return [
        packer.pack(
            shared
            | {
                "users": users[place],
                "items": items[place],
                "decisions": decisions[place],
                "size": end - start,
                "columns": {name: parts[place] for name, parts in packed.items()},
                "granted": (granted[grants[place] : grants[place + 1]] - start).astype("<u4").tobytes(),
                "grant_id": grant_id[grants[place] : grants[place + 1]].tobytes(),
                "committed": committed[place].astype("<u4").tobytes(),
            }
        )
        for place, (start, end) in enumerate(pairwise(cuts.tolist()))
    ]


def _recoded(
    code: npt.NDArray[np.integer[Any]], part: npt.NDArray[np.intp], parts: int, names: Sequence[str]
) -> tuple[list[list[str]], npt.NDArray[Any]]:
    """Return the names that occur in each part, and each row's place among those of its part in the narrowest type."""
    slot = part * len(names) + code
    there = np.zeros(parts * len(names), bool)
    there[slot] = True
    place, found = np.cumsum(there) - 1, np.flatnonzero(there)
    starts = np.searchsorted(found, np.arange(parts + 1) * len(names))
    occurring = [names[code] for code in (found % max(len(names), 1)).tolist()]
    by_part = [occurring[start:end] for start, end in pairwise(starts.tolist())]
    return by_part, (place[slot] - starts[part]).astype(np.min_scalar_type(len(names)))


def _pack_column(values: npt.NDArray[Any], cuts: npt.NDArray[np.intp]) -> list[tuple[str, bytes]]:
    """Return a column's type and bytes per part: of one value where all rows have the same, as most do in most columns."""
    changes, kind, packed, size = np.flatnonzero(values[1:] != values[:-1]) + 1, values.dtype.str, values.tobytes(), values.itemsize
    starts, ends = cuts[:-1], cuts[1:]
    same = (np.searchsorted(changes, starts, "right") == np.searchsorted(changes, ends)) & (ends > starts)
    ends = np.where(same, starts + 1, ends)
    return [(kind, packed[start:end]) for start, end in zip((starts * size).tolist(), (ends * size).tolist(), strict=True)]


def _rows_of(entry: dict[str, Any]) -> Rows:
    rows = np.zeros(entry["size"], LOG_ROW)
    for name, (kind, values) in entry["columns"].items():
        rows[name] = np.frombuffer(values, kind)
    rows["grant_id"][np.frombuffer(entry["granted"], "<u4")] = np.frombuffer(entry["grant_id"], "<u8")
    return rows


def unpack(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the rows of entries, in their order, with their final dispositions; the columns are LOG_COLUMNS."""
    packed = [msgpack.unpackb(entry.blob) for entry in entries]
    rows = np.concatenate([np.zeros(0, LOG_ROW), *map(_rows_of, packed)])
    sizes = np.array([each["size"] for each in packed], np.intp)
    of = np.repeat(np.arange(len(packed)), sizes)
    _settle(rows, entries, packed, np.cumsum(sizes) - sizes)

    def named(dictionary: str, column: str) -> npt.NDArray[np.object_]:
        """Look codes up in all entries' dictionaries, laid end to end."""
        counts = np.array([len(each[dictionary]) for each in packed], np.intp)
        names = np.array([name for each in packed for name in each[dictionary]], object)
        return np.asarray(names[rows[column] + (np.cumsum(counts) - counts)[of]])

    at_us = np.array([each["at"] * 1e6 for each in packed]).astype(np.int64)
    granted = is_any(rows["disposition"], SEND, UPDATE, DIGEST) & (rows["grant_id"] != 0)
    grant_id = np.full(len(rows), "", object)
    grant_id[granted] = [f"{grant:016x}" for grant in rows["grant_id"][granted].tolist()]
    frame = {
        "at": pd.to_datetime(at_us[of], unit="us", utc=True),
        "decision_id": named("decisions", "request"),
        "user_id": named("users", "user"),
        "item_id": named("items", "item"),
        "channel": named("channels", "channel"),
        "source": named("sources", "source"),
        "lane": np.array([each["lane"] for each in packed], object)[of],
        "disposition": np.array(DISPOSITIONS, object)[rows["disposition"]],
        "reason": np.array(REASONS, object)[rows["reason"]],
        **{name: rows[name] for name in ("probability", "value", "threshold", "propensity", "allowance", "weight")},
        "grant_id": grant_id,
        "model_id": np.array([each["model"] for each in packed], object)[of],
        "dry": np.array([each.get("dry", False) for each in packed], bool)[of],
    }
    return pd.DataFrame({name: frame[name] for name in LOG_COLUMNS})


def _settle(rows: Rows, entries: Sequence[Entry], packed: Sequence[dict[str, Any]], starts: npt.NDArray[np.intp]) -> None:
    """Write what the commit said of the rows it was given over what was proposed."""
    for entry, each, start in zip(entries, packed, starts.tolist(), strict=True):
        final = np.frombuffer(entry.final, np.uint8).reshape(-1, 2)
        settled = start + np.frombuffer(each["committed"], "<u4")[: len(final)]
        rows["disposition"][settled], rows["reason"][settled] = final[:, 0], final[:, 1]


class DecisionStream(Protocol):
    """Entries of a shard that no file holds yet, oldest first."""

    def read(self, shard: int, count: int, after: str = "") -> list[Entry]:
        """Return up to `count` of the oldest entries, of those after the entry `after` if given, leaving them where they are."""
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

    def read(self, shard: int, count: int, after: str = "") -> list[Entry]:
        """See DecisionStream."""
        kept = self.entries.get(shard, [])
        start = next((place + 1 for place, entry in enumerate(kept) if entry.id == after), 0)
        return kept[start : start + count]

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

        Neither a drain that died before it dropped them, nor two at once, file anything twice: see History.file.
        """
        entries = self.stream.read(shard, count)
        if not entries:
            return 0
        frame = keyed(unpack(entries), self.user_keys)
        for table, rows in ((TABLE, frame[~frame["dry"]]), (DRY_TABLE, frame[frame["dry"]])):
            self.history.file(table, rows.drop(columns="dry"), at="at", shard=shard, first=entries[0].id, last=entries[-1].id)
        self.stream.drop(shard, entries)
        return len(frame)

    def find(
        self, now: float, *, user_id: str | None = None, decision_id: str | None = None, shard: int | None = None, limit: int = 1000
    ) -> pd.DataFrame:
        """Return the newest rows of a user or a decision, newest first, with `user_id` where it is known."""
        shards = range(self.shards) if shard is None else [shard]
        # Files come last: what is filed meanwhile is then seen twice rather than never.
        parts = [page for number in shards for page in self._waiting(number, user_id, decision_id)]
        parts.append(self._filed(now, user_id, decision_id, shard))
        found = pd.concat([part for part in parts if len(part)] or [_EMPTY], ignore_index=True)
        repeats = found.assign(who=self._who(found)).duplicated(["decision_id", "who", "item_id", "channel"])
        return found[~repeats].sort_values("at", ascending=False, kind="stable").head(limit)

    def _waiting(self, shard: int, user_id: str | None, decision_id: str | None) -> Iterator[pd.DataFrame]:
        """Yield the rows that no file holds yet, a page of entries at a time."""
        after = ""
        while entries := self.stream.read(shard, PAGE, after):
            rows, after = unpack(entries), entries[-1].id
            yield rows[_matches(rows, user_id, decision_id)]

    def _who(self, rows: pd.DataFrame) -> list[str]:
        """Return one name for the user of each row, the same whether the row is filed, under a random key, or not."""
        users = rows["user_id"].dropna().unique().tolist()
        names = {user: key or user for user, key in zip(users, self.user_keys.known(users), strict=True)}
        keys = rows["user_key"] if "user_key" in rows else rows["user_id"]
        return [names.get(user, key) for user, key in zip(rows["user_id"], keys, strict=True)]

    def _filed(self, now: float, user_id: str | None, decision_id: str | None, shard: int | None) -> pd.DataFrame:
        where = None if decision_id is None else pc.field("decision_id") == decision_id
        if user_id is not None:
            key = self.user_keys.known([user_id])[0]
            if key is None:
                return _EMPTY
            mine = pc.field("user_key") == key
            where = mine if where is None else where & mine
        if shard is not None:
            there = pc.field("shard") == shard
            where = there if where is None else where & there
        since, until = now - KEEP_DAYS * 86400, now + 86400
        parts = [self.history.read(table, since, until, where=where).assign(dry=table == DRY_TABLE) for table in (TABLE, DRY_TABLE)]
        frame = pd.concat([part for part in parts if len(part)] or [_EMPTY], ignore_index=True)
        return frame.assign(user_id=user_id).drop(columns=["date", "shard"], errors="ignore")


_EMPTY = pd.DataFrame(columns=LOG_COLUMNS)


def _matches(frame: pd.DataFrame, user_id: str | None, decision_id: str | None) -> pd.Series[bool]:
    kept = pd.Series(True, index=frame.index)
    if user_id is not None:
        kept &= frame["user_id"] == user_id
    if decision_id is not None:
        kept &= frame["decision_id"] == decision_id
    return kept
