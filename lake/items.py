"""The item table: what there is to tell about, as columns in memory, kept in step with the store."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.actors import Actors, Asked, MemoryActors, act_of
from lake.ids import Keys64, author_key, hash64, topic_key
from lake.terms import Terms, terms_of

ScalarT = TypeVar("ScalarT", bound=np.generic)

MAX_TOPICS = 8
MAX_AGE_S = 14 * 86400.0
"""Items older than this leave the table; they can no longer be candidates."""

PRUNE_EVERY_S = 60.0
"""How often a table drops what has expired while nothing else changes."""

ItemRow = Mapping[str, Any]
"""One items row as plain values: times in epoch seconds, topics a list of str, absent optional columns left out."""


@dataclass(frozen=True)
class Items:
    """Columns of items, one row per item; `key`s are lake.ids hashes and 0 means none.

    `ids`: object array of str. `created_at`, `expires_at`: float64 seconds (inf: never). `half_life_s`: float32, NaN:
    not given. `author`, `entity`, `kind`: uint64 keys. `topics`: uint64 (n, MAX_TOPICS), padded with 0.
    `version`: uint32. `latitude`, `longitude`: float32 degrees, NaN: not given. `terms`: uint16 (n, MAX_TERMS), the hashed words
    of title and text, padded with 0.
    """

    ids: npt.NDArray[np.object_]
    created_at: npt.NDArray[np.float64]
    expires_at: npt.NDArray[np.float64]
    half_life_s: npt.NDArray[np.float32]
    author: Keys64
    topics: Keys64
    kind: Keys64
    entity: Keys64
    version: npt.NDArray[np.uint32]
    latitude: npt.NDArray[np.float32]
    longitude: npt.NDArray[np.float32]
    terms: Terms

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[Any] | slice) -> Items:
        """Return the given rows; those of a slice are views."""
        return Items(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    def resized(self, size: int) -> Items:
        """Return copies of the columns, `size` rows long; what the rows behind the present ones hold has no meaning."""
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        return Items(**{name: np.resize(values, (size, *values.shape[1:])) for name, values in columns.items()})

    def equals(self, other: Items) -> npt.NDArray[np.bool_]:
        """Return which rows are the same in both, shape (n,)."""
        is_same = np.ones(len(self), bool)
        for column in fields(self):
            mine, theirs = getattr(self, column.name), getattr(other, column.name)
            equal = (mine == theirs) | ((mine != mine) & (theirs != theirs))
            is_same &= equal.all(axis=tuple(range(1, equal.ndim)))
        return is_same

    @staticmethod
    def empty() -> Items:
        """Return no items."""
        return Items.from_rows([])

    @staticmethod
    def concat(parts: Sequence[Items]) -> Items:
        """Return the rows of all parts, in order."""
        return Items(**{column.name: np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Items)})

    @staticmethod
    def from_rows(rows: Sequence[ItemRow]) -> Items:
        """Return the columns of plain rows; only `item_id` and `created_at` are required."""
        ids = np.array([row["item_id"] for row in rows], dtype=object)
        return Items(
            ids=ids,
            created_at=np.array([row["created_at"] for row in rows], np.float64),
            expires_at=_numbers(rows, "expires_at", np.inf, np.float64),
            half_life_s=_numbers(rows, "half_life_s", np.nan, np.float32),
            author=_keys([row.get("author_id") for row in rows], author_key),
            topics=_topic_keys([row.get("topics") for row in rows]),
            kind=_keys([row.get("kind") for row in rows], hash64),
            entity=hash64([row.get("entity_id") or row["item_id"] for row in rows]),
            version=_numbers(rows, "version", 0, np.uint32),
            latitude=_numbers(rows, "latitude", np.nan, np.float32),
            longitude=_numbers(rows, "longitude", np.nan, np.float32),
            terms=terms_of([_words(row) for row in rows]),
        )

    @staticmethod
    def from_frame(frame: pd.DataFrame) -> Items:
        """Return the columns of an interchange `items` table (times as UTC timestamps)."""
        return Items.from_rows(rows_of_frame(frame))


def rows_of_frame(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return an interchange `items` table as plain rows: times in epoch seconds, missing values left out."""
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            seconds = column.to_numpy("datetime64[us]").astype(np.int64) / 1e6
            columns[name] = [None if missing else second for second, missing in zip(seconds.tolist(), column.isna(), strict=True)]
        elif name == "topics":
            columns[name] = [list(value) if isinstance(value, list | tuple | np.ndarray) else None for value in column]
        else:
            columns[name] = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    names = list(columns)
    return [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns.values(), strict=True)
    ]


def _numbers(rows: Sequence[ItemRow], name: str, missing: float, dtype: type[ScalarT]) -> npt.NDArray[ScalarT]:
    values = [row.get(name) for row in rows]
    return np.array([missing if value is None else value for value in values], dtype)


def _keys(values: Sequence[str | None], key: Any) -> Keys64:
    return np.where([value is None for value in values], np.uint64(0), key([value or "" for value in values])).astype(np.uint64)


def _words(row: ItemRow) -> str:
    return f"{row.get('title') or ''} {row.get('text') or ''}"


def _topic_keys(topics: Sequence[Sequence[str] | None]) -> Keys64:
    padded = np.zeros((len(topics), MAX_TOPICS), np.uint64)
    lists = [list(dict.fromkeys(names))[:MAX_TOPICS] if names is not None else [] for names in topics]
    lengths = np.array([len(names) for names in lists], np.intp)
    padded[np.arange(MAX_TOPICS) < lengths[:, None]] = topic_key([name for names in lists for name in names])
    return padded


class ItemStore(Protocol):
    """Where items live. Every method is one store round trip per call; none raises for an unknown id."""

    def put(self, rows: Sequence[ItemRow]) -> None:
        """Insert or replace items; the change is seen by every `ItemTable.sync` from now on."""
        ...

    def lend(self, rows: Sequence[ItemRow], for_s: float, /) -> None:
        """Let items be read by their ids, for about `for_s` seconds, without telling any table of them: no source proposes them."""
        ...

    def delete(self, item_ids: Sequence[str]) -> None:
        """Remove items; unknown ids are ignored."""
        ...

    def get(self, item_ids: Sequence[str]) -> list[ItemRow | None]:
        """Return the rows of items, None where there is none."""
        ...

    def there(self, item_ids: Sequence[str]) -> list[bool]:
        """Return which items there are."""
        ...

    def actors(self, asked: Sequence[Asked]) -> list[Actors]:
        """Return who acted on entities; nobody for an entity of one version that does not say so (see lake.actors.act_of)."""
        ...

    def changes(self, cursor: str) -> tuple[list[str], str]:
        """Return the ids put or deleted since `cursor` ("" = everything kept) and the next cursor."""
        ...


@dataclass
class MemoryItemStore:
    """Items in a dictionary, for tests and replay."""

    rows: dict[str, ItemRow] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    acts: MemoryActors = field(default_factory=MemoryActors)

    def put(self, rows: Sequence[ItemRow]) -> None:
        """See ItemStore."""
        for row in rows:
            self.rows[row["item_id"]] = row
            if act := act_of(row):
                self.acts.add(act)
            self.log.append(row["item_id"])

    def lend(self, rows: Sequence[ItemRow], _for_s: float, /) -> None:
        """See ItemStore; here they stay, for memory ends with its process."""
        self.rows.update({row["item_id"]: row for row in rows})

    def delete(self, item_ids: Sequence[str]) -> None:
        """See ItemStore."""
        for item_id in item_ids:
            if act := act_of(self.rows.pop(item_id, {"item_id": item_id})):
                self.acts.remove(act)
            self.log.append(item_id)

    def get(self, item_ids: Sequence[str]) -> list[ItemRow | None]:
        """See ItemStore."""
        return [self.rows.get(item_id) for item_id in item_ids]

    def there(self, item_ids: Sequence[str]) -> list[bool]:
        """See ItemStore."""
        return [item_id in self.rows for item_id in item_ids]

    def actors(self, asked: Sequence[Asked]) -> list[Actors]:
        """See ItemStore."""
        return [self.acts.of(each) for each in asked]

    def changes(self, cursor: str) -> tuple[list[str], str]:
        """See ItemStore."""
        start = int(cursor or 0)
        return list(dict.fromkeys(self.log[start:])), str(len(self.log))


@dataclass(frozen=True)
class Snapshot:
    """The item table at one moment. `generation`: counts the changes.

    `index`: the row of each item id, shared with later snapshots that only have more rows.
    """

    items: Items
    index: dict[str, int]
    generation: int

    def codes(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the rows of items, -1 where one is missing."""
        get = self.index.get
        rows = np.fromiter((get(item_id, -1) for item_id in item_ids), np.int32, len(item_ids))
        rows[rows >= len(self.items)] = -1
        return rows


class Columns:
    """Columns of items with room for more, so that a new item costs the same however many there are."""

    def __init__(self, items: Items) -> None:
        self._room, self._size = items, len(items)

    def add(self, rows: Items) -> Items:
        """Return all columns with `rows` behind them; what was returned before shows what it showed."""
        start, self._size = self._size, self._size + len(rows)
        if self._size > len(self._room):
            self._room = self._room.resized(2 * self._size)
        for column in fields(Items):
            getattr(self._room, column.name)[start : self._size] = getattr(rows, column.name)
        return self._room.take(slice(self._size))


@dataclass
class ItemTable:
    """The unexpired items of the last 14 days, in memory. Call `sync` with the time before a batch; threads may share it."""

    store: ItemStore
    _snapshot: Snapshot = field(default_factory=lambda: Snapshot(Items.empty(), {}, 0))
    _columns: Columns = field(default_factory=lambda: Columns(Items.empty()))
    _cursor: str = ""
    _pruned_at: float = -np.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def items(self) -> Items:
        """The columns."""
        return self._snapshot.items

    @property
    def generation(self) -> int:
        """Counts the changes of the table."""
        return self._snapshot.generation

    def snapshot(self) -> Snapshot:
        """Return the table as it is; a later sync does not change it."""
        return self._snapshot

    def codes(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the rows of items in the table, -1 where one is missing."""
        return self._snapshot.codes(item_ids)

    def sync(self, now: float) -> None:
        """Bring the table in step with the store: one round trip, and one more where something changed."""
        with self._lock:
            changed, cursor = self.store.changes(self._cursor)
            is_due = now - self._pruned_at >= PRUNE_EVERY_S
            if not changed and not is_due:
                return
            fresh = live(Items.from_rows([row for row in self.store.get(changed) if row is not None]), now)
            if is_due or self._replaces(changed, fresh):
                self._make_anew(changed, fresh, now)
            else:
                self._add(fresh)
            self._cursor = cursor  # only now: where the store went away in between, the next sync reads the same changes again

    def _replaces(self, changed: list[str], fresh: Items) -> bool:
        """Return whether a row of the table is another now, or gone: what is put again as it was is no change."""
        old = self._snapshot
        held, place = old.codes(changed), old.codes(fresh.ids.tolist())
        known = np.flatnonzero(place >= 0)
        same = fresh.take(known).equals(old.items.take(place[known]))
        return bool((held >= 0).sum() > same.sum())

    def with_missing(self, item_ids: Sequence[str]) -> tuple[Items, npt.NDArray[np.int32]]:
        """Return columns that hold every known one of `item_ids` and the row of each (-1: unknown everywhere).

        Items the table lacks (brand new, or older than 14 days) are fetched from the store in one round trip.
        """
        now = self._snapshot
        codes = now.codes(item_ids)
        absent = [item_ids[i] for i in np.flatnonzero(codes < 0).tolist()]
        if not absent:
            return now.items, codes
        found = [row for row in self.store.get(absent) if row is not None]
        known, mine = np.unique(codes[codes >= 0], return_inverse=True)
        codes[codes >= 0] = mine
        place = {row["item_id"]: len(known) + i for i, row in enumerate(found)}
        codes[codes < 0] = [place.get(item_id, -1) for item_id in absent]
        return Items.concat([now.items.take(known), Items.from_rows(found)]), codes

    def _add(self, fresh: Items) -> None:
        """Add items; those that the table has are as they were."""
        old = self._snapshot
        fresh = fresh.take(old.codes(fresh.ids.tolist()) < 0)
        if not len(fresh):
            return
        old.index.update(zip(fresh.ids.tolist(), range(len(old.items), len(old.items) + len(fresh)), strict=True))
        self._snapshot = Snapshot(self._columns.add(fresh), old.index, old.generation + 1)

    def _make_anew(self, changed: list[str], fresh: Items, now: float) -> None:
        """Put items in the place of what was known of them, and drop what has expired."""
        old = self._snapshot
        gone = old.codes(changed)
        kept = np.ones(len(old.items), bool)
        kept[gone[gone >= 0]] = False
        items = Items.concat([live(old.items.take(kept), now), fresh])
        self._columns, self._pruned_at = Columns(items), now
        self._snapshot = Snapshot(items, {item_id: row for row, item_id in enumerate(items.ids.tolist())}, old.generation + 1)


def live(items: Items, now: float) -> Items:
    """Return the items that a table holds: unexpired, and of the last 14 days."""
    return items.take((items.expires_at > now) & (items.created_at > now - MAX_AGE_S))
