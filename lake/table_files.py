"""Read Parquet, CSV and NDJSON files, plain or gzipped, as Arrow tables whose text stays as it was written."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from lake.errors import InputError

FORMATS = {".parquet": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
WRAPPERS = (".gz", ".zip")
BATCH_ROWS = 100_000


def format_of(path: Path) -> str | None:
    """Return `parquet`, `csv` or `ndjson` by a file's extension, None for any other file."""
    return FORMATS.get(_inner(path).suffix.lower())


def stem_of(path: Path) -> str:
    """Return a file's name without its extensions: `events` for `events.csv.gz`."""
    return _inner(path).stem


@dataclass(frozen=True)
class Expected:
    """The columns that a table may have: `columns` are all of them, `texts` those that JSON, too, writes as text."""

    columns: frozenset[str]
    texts: frozenset[str] = frozenset()


def read_file(path: Path, expected: Expected) -> pa.Table:
    """Return the rows of a file; of the expected columns, CSV files give all as text, and so do NDJSON files those that are.

    Raises InputError naming the file and, where it is known, the row that could not be read.
    """
    read = {"parquet": _read_parquet, "csv": _read_csv, "ndjson": _read_ndjson}.get(format_of(path) or "")
    if read is None:
        raise InputError(f"{path}: not a table; Parquet (.parquet), CSV (.csv) and NDJSON (.ndjson, .jsonl) can be read, plain or gzipped")
    try:
        return read(path, expected)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, EOFError, pa.ArrowInvalid, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _inner(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in WRAPPERS else path


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file as plain bytes, whatever it is wrapped in; raises InputError for an archive of several files."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as unzipped:
            yield cast("IO[bytes]", unzipped)
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
            if len(names) != 1:
                raise InputError(f"{path}: holds {len(names)} files; unpack it")
            with archive.open(names[0]) as member:
                yield member
    else:
        with path.open("rb") as plain:
            yield plain


def _read_parquet(path: Path, expected: Expected) -> pa.Table:
    del expected  # Parquet says itself what is text
    if path.suffix.lower() == ".parquet":
        table = pq.ParquetFile(path).read()
    else:
        with opened(path) as file:
            table = pq.ParquetFile(pa.BufferReader(file.read())).read()
    return table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])


def _read_csv(path: Path, expected: Expected) -> pa.Table:
    try:
        table = _parse_csv(path, expected.columns, use_threads=True)
    except pa.ArrowInvalid:
        table = _parse_csv(path, expected.columns, use_threads=False)  # fails again, and now knows the row
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise InputError(f"{path}: the header names {', '.join(sorted(repeated))} twice")
    return table


def _parse_csv(path: Path, text_columns: frozenset[str], *, use_threads: bool) -> pa.Table:
    with opened(path) as file:
        if not file.read(1):
            raise InputError(f"{path}: is empty; the first line of a CSV file names its columns")
    with opened(path) as file:
        return pyarrow.csv.read_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(use_threads=use_threads, block_size=8 << 20),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(text_columns, pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def _read_ndjson(path: Path, expected: Expected) -> pa.Table:
    try:
        return _parse_ndjson(path, expected.texts)
    except pa.ArrowInvalid:
        return _parse_ndjson_by_line(path, expected.texts)  # slower; it writes mixed types out as text, and knows the wrong line


def _parse_ndjson(path: Path, texts: frozenset[str]) -> pa.Table:
    schema = pa.schema([(name, pa.large_string()) for name in sorted(texts)])
    with opened(path) as file:
        table = pyarrow.json.read_json(
            file,
            read_options=pyarrow.json.ReadOptions(block_size=8 << 20),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema),
        )
    absent = [name for name in texts if table.column(name).null_count == table.num_rows]  # it adds what the schema names
    return table.drop_columns(absent)


def _parse_ndjson_by_line(path: Path, texts: frozenset[str]) -> pa.Table:
    with opened(path) as file:
        parts = [_columns(rows, texts) for rows in _batches(path, file)]
    try:
        return pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"{path}: a column holds different types in different rows: {error}") from error


def _batches(path: Path, file: IO[bytes]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number:,} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f'{path}: line {number:,} is not a JSON object; write one row a line, such as {{"user_id": "u1"}}')
        rows.append(row)
        if len(rows) == BATCH_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _columns(rows: list[dict[str, Any]], texts: frozenset[str]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows], as_text=name in texts) for name in names})


def _column(values: list[Any], *, as_text: bool) -> pa.Array:
    """Build a column; one that mixes types, or that ought to be text, is written out as text."""
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_written(value) for value in values], pa.large_string())
    return column.cast(pa.large_string()) if as_text and pa.types.is_integer(column.type) else column


def _written(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
