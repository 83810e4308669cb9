"""A folder of interchange tables as pandas columns: loaded up to a moment, completed where rows are missing, saved whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.aside import written_aside
from lake.errors import InputError, TableError, together
from lake.table_files import format_of, read_file, stem_of
from lake.tables import SCHEMAS, Schema, check_frame

MARKER = "tidings.json"
"""The file that says a folder was written here, so it may be replaced."""
CHECKED = {b"tidings": b"checked-1"}
"""Parquet metadata of a table that passed every check when it was written; counts up when a rule gets stricter."""
TIMES = {"users": "created_at", "items": "created_at", "events": "at", "sends": "at", "follows": "since"}
"""The column that says when a row came to be; nothing at or after `until` is loaded."""

REQUIRED_ADVICE = "it is the one table that is required (events.parquet, events.csv or events.ndjson)"

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Dataset:
    """All interchange tables, each with every column of its schema and further columns as they came.

    Text is `str` (NaN: none), times are datetime64[us, UTC], numbers float64 (NaN: none) except `weekly` (int64) and
    `allowed` (bool), `topics` a list of str per row. Events, sends and items are sorted by time, events are unique by
    `event_id`, and every user and item that a row of another table names is a row of `users` and `items`.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    events: pd.DataFrame
    sends: pd.DataFrame
    follows: pd.DataFrame
    addresses: pd.DataFrame
    budgets: pd.DataFrame
    preferences: pd.DataFrame

    @classmethod
    def load(cls, folder: Path | str, until: pd.Timestamp | None = None) -> Dataset:
        """Read a folder of Parquet, CSV or NDJSON tables as it was known just before `until` (tz-aware).

        Raises InputError where the folder, a table or `until` cannot be used; tables saved by Tidings are not checked again.
        """
        return cls.of_checked(read_tables(Path(folder)), until)

    @classmethod
    def of(cls, tables: Tables, until: pd.Timestamp | None = None) -> Dataset:
        """Check and complete tables by name; raises InputError as `load` does."""
        return cls.of_checked({name: check_frame(frame, name) for name, frame in tables.items()}, until)

    @classmethod
    def of_checked(cls, tables: Tables, until: pd.Timestamp | None = None) -> Dataset:
        """Complete tables that were checked before; raises InputError where there is no events table."""
        if "events" not in tables:
            raise InputError(f"there is no table of events; {REQUIRED_ADVICE}")
        known = {name: tidy(before(tables[name], name, until), name) for name in SCHEMAS if name in tables}
        known |= {name: schema.empty() for name, schema in SCHEMAS.items() if name not in known}
        return cls(**known | {"items": _with_all_items(known), "users": _with_all_users(known)})

    def save(self, folder: Path | str) -> None:
        """Write the events and every other table that has rows to a folder, replacing what was saved there before; see `save_tables`."""
        save_tables(self.tables, Path(folder))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def table_of(path: Path) -> str | None:
    """Return the table that a file holds, by its name: `events` for `events.csv.gz`, None for any other file."""
    return stem_of(path) if format_of(path) and stem_of(path) in SCHEMAS else None


def find_tables(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each interchange table in a folder: `events.csv`, or a folder `events/` of parts."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name in SCHEMAS:
            parts = sorted(part for part in path.iterdir() if part.is_file() and format_of(part))
            found.setdefault(path.name, []).extend(parts)
        elif path.is_file() and (name := table_of(path)):
            found.setdefault(name, []).append(path)
    return {name: paths for name, paths in found.items() if paths}


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the checked tables that a folder holds, by name; raises InputError, also where there is no events table."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    if "events" not in find_tables(folder):
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise InputError(f"{folder}: there is no table of events; {REQUIRED_ADVICE}; found {there}")
    return read_found(folder)


def read_found(folder: Path) -> dict[str, pd.DataFrame]:
    """Return whichever checked tables a folder holds, by name; raises InputError."""
    found = find_tables(folder)
    for name, paths in found.items():
        if len({path.parent for path in paths}) > 1 or (len(paths) > 1 and paths[0].parent == folder):
            raise InputError(f"{folder}: table {name} is there more than once ({', '.join(path.name for path in paths)}); keep one")
    tables, wrong = {}, []
    for name, paths in found.items():
        try:
            tables[name] = read_parts(paths, name)
        except InputError as error:
            wrong.append(error)
    if wrong:
        raise together(wrong)
    return tables


def read_parts(paths: list[Path], name: str) -> pd.DataFrame:
    """Return the checked rows of a table's files, in the files' order; raises InputError."""
    schema = SCHEMAS[name]
    tables = []
    for path in paths:
        table = read_file(path, schema.expected)
        is_checked = (table.schema.metadata or {}).items() >= CHECKED.items()
        tables.append(schema.complete(table) if is_checked else _checked(schema, table, path))
    if len(tables) == 1:
        return schema.frame(tables[0])
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")
    return schema.frame(schema.check(whole, f"{paths[0].parent} (rows counted through all {len(paths)} files)"))


def _checked(schema: Schema, table: pa.Table, path: Path) -> pa.Table:
    try:
        return schema.check(table, str(path))
    except TableError as first:
        raise together(schema.mistakes(table, str(path))) from first


def before(frame: pd.DataFrame, name: str, until: pd.Timestamp | None) -> pd.DataFrame:
    """Return the rows of a table that were known before `until`; what became of a send later is blanked."""
    if until is None or name not in TIMES:
        return frame
    if until.tzinfo is None:
        raise InputError(f"{until} has no time zone; write it in UTC or with its offset, such as {until.isoformat()}Z")
    rows = frame[~(frame[TIMES[name]] >= until)]
    return rows.assign(engaged_at=rows["engaged_at"].where(rows["engaged_at"] < until)) if name == "sends" else rows


def tidy(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table in the order of time, a retried event and a repeated follow once."""
    if name in ("items", "events", "sends") and not frame[TIMES[name]].is_monotonic_increasing:
        frame = frame.sort_values(TIMES[name], kind="stable")
    if name == "events" and frame["event_id"].notna().any():
        frame = frame[~(frame["event_id"].duplicated() & frame["event_id"].notna())]
    if name == "follows":
        frame = frame.drop_duplicates(["user_id", "topic", "author_id"])
    return frame.reset_index(drop=True)


def save_tables(tables: Tables, folder: Path) -> None:
    """Write checked tables as Parquet into a folder that appears, or replaces the one saved before, in one rename.

    Raises InputError where the folder holds anything that was not saved here, or cannot be written; it is then untouched.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)

    try:
        with written_aside(folder) as new:
            rows = {name: len(frame) for name, frame in tables.items() if len(frame) or name == "events"}
            for name in rows:
                _write_parquet(tables[name], name, new / f"{name}.parquet")
            (new / MARKER).write_bytes(orjson.dumps({"format": 1, "rows": rows}, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _write_parquet(frame: pd.DataFrame, name: str, path: Path) -> None:
    schema = SCHEMAS[name]
    bare = [column.name for column in schema.columns if not column.required and _is_bare(frame[column.name])]
    table = schema.arrow(frame.drop(columns=bare))
    for column in schema.columns:
        if column.name in table.column_names:
            place = table.column_names.index(column.name)
            table = table.set_column(place, column.name, table.column(column.name).cast(column.kind.arrow))
    pq.write_table(table.replace_schema_metadata(CHECKED), path, compression="zstd")


def _is_bare(column: pd.Series[str]) -> bool:
    return not column.map(len).any() if column.name == "topics" else bool(column.isna().all())


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to write to")
    ours = {MARKER, *(f"{name}.parquet" for name in SCHEMAS)}
    names = {path.name for path in folder.iterdir()}
    if names and (MARKER not in names or names - ours):
        others = ", ".join(sorted(names - ours or names)[:5])
        raise InputError(f"{folder}: holds files that an import did not write ({others}); name a new or an empty folder")


def _with_all_items(tables: Tables) -> pd.DataFrame:
    """Return the items and those that only events or sends name, which came to be when they were first named."""
    named = pd.concat([tables["events"][["item_id", "at"]], tables["sends"][["item_id", "at"]]], ignore_index=True)
    unknown = _unknown([named["item_id"]], tables["items"]["item_id"])
    if unknown.empty:
        return tables["items"]
    first = named[named["item_id"].notna()].groupby("item_id", sort=False)["at"].min()
    born = pd.DataFrame({"item_id": unknown, "created_at": unknown.map(first)})
    return tidy(_appended(tables["items"], born, "items"), "items")


def _with_all_users(tables: Tables) -> pd.DataFrame:
    """Return the users and those that only other tables name; where nothing tells their zone, their latest event's offset does."""
    users = tables["users"]
    naming = [frame for name, frame in tables.items() if name != "users" and "user_id" in SCHEMAS[name].expected.columns]
    unknown = _unknown([frame["user_id"] for frame in naming], users["user_id"])
    if len(unknown):
        users = _appended(users, pd.DataFrame({"user_id": unknown}), "users")
    return _with_offsets(users, tables["events"])


def _with_offsets(users: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    told = events.dropna(subset=["utc_offset_minutes"])
    lost = users["timezone"].isna() & users["utc_offset_minutes"].isna()
    if told.empty or not lost.any():
        return users
    latest = told.drop_duplicates("user_id", keep="last").set_index("user_id")["utc_offset_minutes"]
    return users.assign(utc_offset_minutes=users["utc_offset_minutes"].where(~lost, users["user_id"].map(latest)))


def _unknown(named: list[pd.Series[str]], known: pd.Series[str]) -> pd.Series[str]:
    """Return the distinct ids of `named` that are not `known`; in Arrow, where pandas would make an object of every id."""
    distinct = pc.unique(pa.chunked_array([pc.unique(pa.array(ids, pa.large_string())) for ids in named], pa.large_string()))
    unknown = distinct.filter(pc.invert(pc.is_in(distinct, pa.array(known, pa.large_string(), from_pandas=True), skip_nulls=True)))
    return pd.Series(unknown.drop_null().to_pandas())


def _appended(frame: pd.DataFrame, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.concat([frame, check_frame(rows, name)], ignore_index=True) if len(frame) else check_frame(rows, name)
