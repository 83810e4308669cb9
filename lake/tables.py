"""The interchange tables: their columns and rules, checked a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import TableError
from lake.table_columns import (
    BadValueError,
    Flag,
    Instant,
    Kind,
    Number,
    OneOf,
    Text,
    Topics,
    check_encoding,
    is_clock_time,
    is_quarter_hour,
    is_time_zone,
    is_weekdays,
    plain,
    shown,
)
from lake.table_files import Expected, read_file

MAX_ID_CHARS = 256
MAX_NAME_CHARS = 64
MAX_ADDRESS_CHARS = 2048
MAX_WEEKLY = 250
LONGEST_HALF_LIFE_S = 1e9
FURTHEST_OFFSET_MINUTES = 960
"""No place was ever further from UTC: Manila's local mean time was 15 h 56 min behind."""

ID, NAME, TIME = Text(MAX_ID_CHARS), Text(MAX_NAME_CHARS), Instant()
TITLE, TEXT, URL = Text(2_000, one_line=True), Text(1_000_000, forbidden=r"\x{00}"), Text(2_048)
OFFSET = Number(-FURTHEST_OFFSET_MINUTES, FURTHEST_OFFSET_MINUTES, whole=True)
LATITUDE, LONGITUDE = Number(-90, 90), Number(-180, 180)
CLOCK_TIME = OneOf(is_clock_time, "a time of day such as 22:30")
QUARTER_HOUR = OneOf(is_quarter_hour, "a quarter of an hour such as 18:30")
DAYS = OneOf(is_weekdays, "weekdays such as mon|wed|fri")
TIME_ZONE = OneOf(is_time_zone, "an IANA time zone such as Europe/Berlin")


@dataclass(frozen=True)
class Column:
    """One column of a table: a `required` one must be there and hold a value in every row."""

    name: str
    kind: Kind
    required: bool = False


@dataclass(frozen=True)
class Schema:
    """One table: `key` columns identify a row, of each group in `any_of` a row gives one at least, of `together` all or none.

    Of each pair in `needs` a row that gives the first gives the second.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    needs: tuple[tuple[str, str], ...] = ()

    def check(self, table: pa.Table, source: str | None = None) -> pa.Table:
        """Return the table with every column of the schema, typed; further columns are kept after them.

        Raises TableError for the first rule that is broken; `source` names the file in its message.
        """
        checked = {column.name: self._read(column, table, source) for column in self.columns}
        for names in self.any_of:
            self._refuse(_missing(checked, names, pc.and_), names[0], f"is missing, and so is {names[-1]}; give one of them", source)
        for names in self.together:
            some = pc.and_(pc.invert(_missing(checked, names, pc.and_)), _missing(checked, names, pc.or_))
            self._refuse(some, names[0], f"and {names[-1]} go together; give both or neither", source)
        for name, needed in self.needs:
            alone = pc.and_(pc.is_valid(checked[name]), pc.is_null(checked[needed]))
            self._refuse(alone, name, f"needs {needed}; give both or leave it out", source)
        extra = {name: table.column(name) for name in self._extra(table)}
        for name, column in extra.items():
            with self._located(name, source):
                check_encoding(column)
        result = pa.table(checked | extra)
        self._refuse_repeated(result, source)
        return result

    def mistakes(self, table: pa.Table, source: str | None = None) -> list[TableError]:
        """Return the first mistake of each column; where each by itself is right, the first rule among them that is broken."""
        found = []
        for column in self.columns:
            try:
                self._read(column, table, source)
            except TableError as error:
                found.append(error)
        if not found:
            try:
                self.check(table, source)
            except TableError as error:
                found.append(error)
        return found

    def complete(self, table: pa.Table) -> pa.Table:
        """Return a table that was checked before, with the optional columns it lacks."""
        lacking = [column for column in self.columns if column.name not in table.column_names]
        for column in lacking:
            table = table.append_column(column.name, _nulls(column.kind, table.num_rows))
        return table.select([column.name for column in self.columns] + self._extra(table))

    def frame(self, table: pa.Table) -> pd.DataFrame:
        """Return a checked table as pandas columns: text `str`, times datetime64[us, UTC], topics a list per row, numbers numpy."""
        lists = [column.name for column in self.columns if isinstance(column.kind, Topics)]
        frame: pd.DataFrame = table.drop_columns(lists).to_pandas()
        for name in lists:
            rows = _lists(plain(table.column(name)))
            frame.insert(table.column_names.index(name), name, pd.Series(rows, index=frame.index, dtype=object))
        return frame

    def arrow(self, frame: pd.DataFrame) -> pa.Table:
        """Return pandas columns as an Arrow table, unchecked; raises TableError for a column that Arrow cannot hold."""
        try:
            return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TableError(self.name, None, None, f"a column mixes types: {error.args[-1]}") from error

    def empty(self) -> pd.DataFrame:
        """Return the table without rows."""
        return self.frame(pa.table({column.name: pa.array([], column.kind.arrow) for column in self.columns}))

    @property
    def expected(self) -> Expected:
        """What the readers of files need to know of the columns."""
        texts = {column.name for column in self.columns if isinstance(column.kind, Text | OneOf | Instant)}
        return Expected(frozenset(column.name for column in self.columns), frozenset(texts))

    def _extra(self, table: pa.Table) -> list[str]:
        return [name for name in table.column_names if name not in self.expected.columns]

    def _read(self, column: Column, table: pa.Table, source: str | None) -> pa.Array:
        if column.name not in table.column_names:
            if column.required:
                there = ", ".join(table.column_names) or "none"
                raise TableError(self.name, column.name, None, f"is missing; the columns found are {there}", source)
            return _nulls(column.kind, table.num_rows)
        with self._located(column.name, source):
            values = column.kind.read(plain(table.column(column.name)))
        if column.required:
            self._refuse(pc.is_null(values), column.name, "is missing or empty", source)
        return values

    @contextmanager
    def _located(self, column: str, source: str | None) -> Iterator[None]:
        try:
            yield
        except BadValueError as bad:
            raise TableError(self.name, column, None if bad.row is None else bad.row + 1, bad.problem, source) from None

    def _refuse(self, bad: pa.Array, column: str, problem: str, source: str | None) -> None:
        row = pc.index(bad, True).as_py()
        if row >= 0:
            raise TableError(self.name, column, row + 1, problem, source)

    def _refuse_repeated(self, table: pa.Table, source: str | None) -> None:
        if not self.key or _is_unique(table, self.key):
            return
        keys = table.select(self.key).to_pandas()
        second = int(np.argmax(keys.duplicated().to_numpy()))
        same = (keys == keys.iloc[second]) | (keys.isna() & keys.iloc[second].isna())
        first = int(np.argmax(same.all(axis=1).to_numpy()))
        value = ", ".join(shown(table.column(name), second) for name in self.key)
        raise TableError(self.name, " + ".join(self.key), second + 1, f"{value} is already in row {first + 1:,}; keep one of them", source)


SCHEMAS: Mapping[str, Schema] = {
    schema.name: schema
    for schema in (
        Schema(
            "users",
            (
                Column("user_id", ID, required=True),
                Column("timezone", TIME_ZONE),
                Column("utc_offset_minutes", OFFSET),
                Column("locale", NAME),
                Column("latitude", LATITUDE),
                Column("longitude", LONGITUDE),
                Column("created_at", TIME),
            ),
            key=("user_id",),
            together=(("latitude", "longitude"),),
        ),
        Schema(
            "items",
            (
                Column("item_id", ID, required=True),
                Column("created_at", TIME, required=True),
                Column("author_id", ID),
                Column("topics", Topics(MAX_ID_CHARS)),
                Column("title", TITLE),
                Column("text", TEXT),
                Column("url", URL),
                Column("kind", NAME),
                Column("entity_id", ID),
                Column("version", Number(0, 2**32 - 1, whole=True)),
                Column("expires_at", TIME),
                Column("half_life_s", Number(0, LONGEST_HALF_LIFE_S, above_low=True)),
                Column("latitude", LATITUDE),
                Column("longitude", LONGITUDE),
            ),
            key=("item_id",),
            together=(("latitude", "longitude"),),
        ),
        Schema(
            "events",
            (
                Column("user_id", ID, required=True),
                Column("item_id", ID),
                Column("kind", NAME, required=True),
                Column("at", TIME, required=True),
                Column("channel", NAME),
                Column("utc_offset_minutes", OFFSET),
                Column("event_id", ID),
                Column("send_id", ID),
            ),
        ),
        Schema(
            "sends",
            (
                Column("user_id", ID, required=True),
                Column("item_id", ID, required=True),
                Column("channel", NAME, required=True),
                Column("at", TIME, required=True),
                Column("propensity", Number(0, 1, above_low=True)),
                Column("engaged_at", TIME),
            ),
        ),
        Schema(
            "follows",
            (Column("user_id", ID, required=True), Column("topic", ID), Column("author_id", ID), Column("since", TIME)),
            any_of=(("topic", "author_id"),),
        ),
        Schema(
            "addresses",
            (
                Column("user_id", ID, required=True),
                Column("channel", NAME, required=True),
                Column("address", Text(MAX_ADDRESS_CHARS), required=True),
            ),
            key=("user_id", "channel"),
        ),
        Schema(
            "budgets",
            (
                Column("user_id", ID, required=True),
                Column("channel", NAME, required=True),
                Column("weekly", Number(0, MAX_WEEKLY, whole=True, integer=True), required=True),
            ),
            key=("user_id", "channel"),
        ),
        Schema(
            "preferences",
            (
                Column("user_id", ID, required=True),
                Column("kind", NAME),
                Column("channel", NAME),
                Column("allowed", Flag(), required=True),
                Column("quiet_from", CLOCK_TIME),
                Column("quiet_to", CLOCK_TIME),
                Column("dial", Number(-2, 2, whole=True)),
                Column("digest_at", QUARTER_HOUR),
                Column("digest_days", DAYS),
            ),
            key=("user_id", "kind", "channel"),
            together=(("quiet_from", "quiet_to"),),
            needs=(("digest_days", "digest_at"),),
        ),
    )
}


def read_table(path: Path, name: str) -> pd.DataFrame:
    """Return the checked rows of a file as one of the interchange tables.

    Raises InputError for a file that cannot be read and TableError for a row that breaks the table's rules.
    """
    schema = SCHEMAS[name]
    return schema.frame(schema.check(read_file(path, schema.expected), str(path)))


def check_frame(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return pandas columns checked and typed as one of the interchange tables; raises TableError."""
    schema = SCHEMAS[name]
    return schema.frame(schema.check(schema.arrow(frame)))


def _nulls(kind: Kind, rows: int) -> pa.Array:
    return kind.read(pa.nulls(rows)) if isinstance(kind, Topics) else pa.nulls(rows, kind.arrow)


def _missing(columns: Mapping[str, Any], names: Iterable[str], combine: Callable[[Any, Any], Any]) -> Any:
    return reduce(combine, (pc.is_null(columns[name]) for name in names))


def _is_unique(table: pa.Table, key: tuple[str, ...]) -> bool:
    return bool(table.select(key).group_by(list(key)).aggregate([]).num_rows == table.num_rows)


def _lists(column: pa.Array) -> npt.NDArray[np.object_]:
    """Return a list column as an object array of Python lists, by slicing the flat values once."""
    lists = column.cast(pa.large_list(pa.large_string()))
    values, ends = lists.flatten().to_pylist(), pc.list_value_length(lists).fill_null(0).to_numpy().cumsum()
    starts = [0, *ends[:-1].tolist()][: len(lists)]
    return np.fromiter((values[start:end] for start, end in zip(starts, ends.tolist(), strict=True)), object, count=len(lists))
