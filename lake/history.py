"""What happened, as Parquet files by date and shard, on a local folder or any filesystem pyarrow knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

KEEP_DAYS = 90
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
            folder = f"{root}/{table}/date={day}/shard={shard}"
            filesystem.create_dir(folder, recursive=True)
            pq.write_table(pa.Table.from_pandas(part, preserve_index=False), f"{folder}/.{name}.part", filesystem=filesystem)
            filesystem.move(f"{folder}/.{name}.part", f"{folder}/{name}.parquet")
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

    def prune(self, table: str, before: float) -> int:
        """Delete the dates of a table that ended before `before` (seconds); returns how many."""
        filesystem, root = self._root()
        selector = pafs.FileSelector(f"{root}/{table}", allow_not_found=True)
        old = [info.path for info in filesystem.get_file_info(selector) if info.base_name.removeprefix("date=") < _day(before).isoformat()]
        for path in old:
            filesystem.delete_dir(path)
        return len(old)

    def _root(self) -> tuple[pafs.FileSystem, str]:
        filesystem, path = pafs.FileSystem.from_uri(self.url) if "://" in self.url else (pafs.LocalFileSystem(), self.url)
        return filesystem, path.rstrip("/")


def _day(at: float) -> date:
    return datetime.fromtimestamp(min(max(at, 0.0), 253402300799.0), UTC).date()
