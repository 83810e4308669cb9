"""Import interchange tables: a folder of them, or a single file named after its table."""

from __future__ import annotations

from pathlib import Path

from lake.dataset import find_tables, read_found, read_parts, table_of
from lake.errors import InputError
from lake.importers.base import Context, Imported
from lake.tables import SCHEMAS


class TablesImporter:
    """Parquet, CSV and NDJSON files, plain or gzipped."""

    def recognises(self, source: str) -> bool:
        """Return whether the source is a table's file or a folder that holds one."""
        path = Path(source)
        return bool(find_tables(path)) if path.is_dir() else path.is_file() and table_of(path) is not None

    def read(self, source: str, context: Context) -> Imported:
        """Return the checked tables of the source; raises InputError."""
        path = Path(source)
        context.progress(f"reading {path.name}", 0, None)
        if path.is_dir():
            return Imported(read_found(path), {})
        name = table_of(path)
        if name is None:
            raise InputError(f"{path}: the file's name must be that of its table ({', '.join(SCHEMAS)}), such as events.csv")
        return Imported({name: read_parts([path], name)}, {})
