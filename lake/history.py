"""What happened, as Parquet files by date and shard, on a local folder or any filesystem pyarrow knows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

KEEP_DAYS = 90
DATE = "date="
OWN_COLUMNS = ("date", "shard", "user_key")
"""What files are partitioned by, and whom their rows are about (lake.user_keys): further columns cannot be called so."""


@dataclass(frozen=True)
class History:
    """Tables of rows by `date=YYYY-MM-DD/shard=N` under a folder or URL.

    A file is written aside and renamed, and its name comes from the writer, so a repeated write replaces itself.
    """

    url: str

    def write(self, table: str, frame: pd.DataFrame, *, at: str, shard: int, name: str) -> int:
        """Write rows into the partitions of their UTC dates; `at` names the time column. Returns the rows written."""
        filesystem, root = self._root()
        for day, part in frame.groupby(frame[at].dt.date):
            folder = f"{root}/{table}/{DATE}{day}/shard={shard}"
            filesystem.create_dir(folder, recursive=True)
            _put(filesystem, pa.Table.from_pandas(part, preserve_index=False), f"{folder}/{name}.parquet")
        return len(frame)

    def file(self, table: str, frame: pd.DataFrame, *, at: str, shard: int, first: str, last: str) -> int:
        """Write the rows of a queue's entries from `first` to `last`, ids such as `12-0`; returns the rows written.

        Of files that begin with the same entry the longest stays: so neither a writer that died before it dropped what it wrote, nor two
        at once, file anything twice or lose what only one of them had.
        """
        self.write(table, frame, at=at, shard=shard, name=f"{first}_{last}")
        filesystem, root = self._root()
        for day in sorted(set(frame[at].dt.date)):
            folder = pafs.FileSelector(f"{root}/{table}/{DATE}{day}/shard={shard}", allow_not_found=True)
            found = [info for info in filesystem.get_file_info(folder) if info.base_name.startswith(f"{first}_")]
            for info in sorted(found, key=_last_entry)[:-1]:
                with suppress(FileNotFoundError):  # another that files the same was quicker
                    filesystem.delete_file(info.path)
        return len(frame)

    def read(
        self,
        table: str,
        since: float,
        until: float,
        *,
        columns: list[str] | None = None,
        where: pc.Expression | None = None,
        schema: pa.Schema | None = None,
    ) -> pd.DataFrame:
        """Return the rows of the dates from `since` to `until` (seconds), narrowed by `where`; empty where there are none.

        `schema`: of the columns, needed where not every file has all of them; else the first file tells which there are.
        """
        filesystem, root = self._root()
        if filesystem.get_file_info(f"{root}/{table}").type == pafs.FileType.NotFound:
            return pd.DataFrame(columns=columns) if schema is None else schema.empty_table().to_pandas()
        parts = pa.schema([("date", pa.string()), ("shard", pa.int32())])
        whole = None if schema is None else pa.unify_schemas([schema, parts])
        layout = ds.partitioning(parts, flavor="hive")
        dataset = ds.dataset(f"{root}/{table}", schema=whole, filesystem=filesystem, format="parquet", partitioning=layout)
        days = (ds.field("date") >= _day(since).isoformat()) & (ds.field("date") <= _day(until).isoformat())
        found: pd.DataFrame = dataset.to_table(columns=columns, filter=days if where is None else days & where).to_pandas()
        return found

    def schema(self, table: str, shard: int) -> pa.Schema:
        """Return the columns that any file of a shard has, none where there is no file, each with a type that holds the values of all."""
        filesystem, _ = self._root()
        schemas = [pq.read_schema(path, filesystem=filesystem).remove_metadata() for path in self._files(table, shard)]
        return pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")

    def blank(self, table: str, shard: int, where: pc.Expression, columns: Callable[[str], bool]) -> int:
        """Blank the columns whose name `columns` is true of, in the rows of a shard that `where` picks; returns the rows it picked.

        Each file is written aside and renamed; those without such a row are only read.
        """
        filesystem, _ = self._root()
        return sum(_blank_file(filesystem, path, where, columns) for path in self._files(table, shard))

    def _files(self, table: str, shard: int) -> list[str]:
        """Return the paths of a shard's files, over all dates."""
        filesystem, root = self._root()
        days = filesystem.get_file_info(pafs.FileSelector(f"{root}/{table}", allow_not_found=True))
        parts = [pafs.FileSelector(f"{day.path}/shard={shard}", allow_not_found=True) for day in days]
        return [info.path for part in parts for info in filesystem.get_file_info(part) if info.path.endswith(".parquet")]

    def prune(self, before: float) -> int:
        """Delete the dates of every table that ended before `before` (seconds); returns how many."""
        filesystem, root = self._root()
        tables = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        old = [
            info.path
            for table in tables
            if table.type == pafs.FileType.Directory
            for info in filesystem.get_file_info(pafs.FileSelector(table.path))
            if info.base_name.startswith(DATE) and info.base_name.removeprefix(DATE) < _day(before).isoformat()
        ]
        for path in old:
            filesystem.delete_dir(path)
        return len(old)

    def _root(self) -> tuple[pafs.FileSystem, str]:
        filesystem, path = pafs.FileSystem.from_uri(self.url) if "://" in self.url else (pafs.LocalFileSystem(), self.url)
        return filesystem, path.rstrip("/")


def _blank_file(filesystem: pafs.FileSystem, path: str, where: pc.Expression, columns: Callable[[str], bool]) -> int:
    file = ds.dataset(path, filesystem=filesystem, format="parquet")
    picked = file.to_table(columns={"it": where})["it"].combine_chunks().fill_null(False)
    if not (rows := pc.sum(picked).as_py()):
        return 0
    rewritten = file.to_table()
    for place, column in enumerate(rewritten.schema):
        if columns(column.name):
            values = pc.if_else(picked, pa.scalar(None, column.type), rewritten[column.name])
            rewritten = rewritten.set_column(place, column.with_nullable(True), values)
    _put(filesystem, rewritten, path)
    return int(rows)


def _put(filesystem: pafs.FileSystem, table: pa.Table, path: str) -> None:
    """Write a file aside, under a name that no other writer of the same file has, and put it in its place."""
    folder, _, name = path.rpartition("/")
    aside = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
    pq.write_table(table, aside, filesystem=filesystem)
    filesystem.move(aside, path)


def _last_entry(info: pafs.FileInfo) -> list[int]:
    """Return the id of a file's last entry, as the store orders them."""
    return [int(part) for part in info.base_name.removesuffix(".parquet").rpartition("_")[2].split("-")]


def _day(at: float) -> date:
    return datetime.fromtimestamp(min(max(at, 0.0), 253402300799.0), UTC).date()
