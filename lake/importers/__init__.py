"""Importers by format: each turns one kind of source into interchange tables; several sources become one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lake.dataset import REQUIRED_ADVICE, Dataset, save_tables, tidy
from lake.errors import InputError, together
from lake.importers.base import Context, Imported, Importer
from lake.importers.deskdrop import DeskdropImporter
from lake.importers.git import GitImporter
from lake.importers.survey import Survey
from lake.importers.tables import TablesImporter
from lake.tables import SCHEMAS

IMPORTERS: Mapping[str, Importer] = {"tables": TablesImporter(), "deskdrop": DeskdropImporter(), "git": GitImporter()}
"""In the order in which a source's format is guessed."""


@dataclass(frozen=True)
class Summary:
    """What an import did and saw: the format of each source, rows saved and rows derived by table, rows left out by reason."""

    formats: list[str]
    rows: dict[str, int]
    derived: dict[str, int]
    dropped: dict[str, int]
    survey: Survey


def import_sources(sources: Sequence[str], into: Path, format_name: str, context: Context) -> Summary:
    """Read sources, merge them and save the tables to a folder, which is untouched where anything is wrong.

    `format_name` is one of IMPORTERS or `auto`. Raises InputError for sources that cannot be used, naming what is wrong with each.
    """
    formats = [detect(source) if format_name == "auto" else format_name for source in sources]
    parts, wrong = [], []
    for name, source in zip(formats, sources, strict=True):
        try:
            parts.append(IMPORTERS[name].read(source, context))
        except InputError as error:
            wrong.append(error)
    if wrong:
        raise together(wrong)
    merged = merge(parts)
    if "events" not in merged.tables:
        raise InputError(f"{', '.join(sources)}: there is no table of events; {REQUIRED_ADVICE}")
    rows = {name: len(frame) for name, frame in merged.tables.items()}
    complete = Dataset.of_checked(merged.tables).tables
    derived = {name: len(frame) - rows.get(name, 0) for name, frame in complete.items()}
    context.progress(f"writing {into}", 0, None)
    save_tables(merged.tables, into)
    return Summary(
        formats, rows, {name: more for name, more in derived.items() if more}, merged.dropped, Survey.of(merged.tables, context.now)
    )


def detect(source: str) -> str:
    """Return the format of a source; raises InputError for one that no importer recognises."""
    for name, importer in IMPORTERS.items():
        if importer.recognises(source):
            return name
    if not Path(source).exists():
        raise InputError(f"{source}: there is no such file or folder, nor is it a URL of a git repository")
    raise InputError(
        f"{source}: holds nothing that can be imported; wanted is one of: interchange tables ({', '.join(SCHEMAS)}, each as .parquet, .csv "
        "or .ndjson), the Deskdrop files (users_interactions.csv, shared_articles.csv), or a git clone"
    )


def merge(parts: Sequence[Imported]) -> Imported:
    """Return several sources as one, each table tidied; what two sources both hold counts once, and the later source wins."""
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    tables = {}
    for name in SCHEMAS:
        frames = [part.tables[name] for part in parts if name in part.tables]
        if frames:
            joined = tidy(_joined(frames, name), name)
            tables[name] = joined
            repeated = sum(map(len, frames)) - len(joined)
            if repeated:
                dropped[f"{name} given more than once"] = repeated
    return Imported(tables, dropped)


def _joined(frames: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    if len(frames) == 1:
        return frames[0]
    joined = pd.concat(frames, ignore_index=True)
    key = list(SCHEMAS[name].key)
    if not key:
        return _union(joined, [len(frame) for frame in frames], name)
    again = joined.duplicated(key, keep=False)
    latest = joined[again].groupby(key, sort=False, dropna=False, as_index=False).last()  # of each column, the last that is known
    return pd.concat([joined[~again], latest], ignore_index=True)


def _union(joined: pd.DataFrame, lengths: Sequence[int], name: str) -> pd.DataFrame:
    """Return the rows of all sources; one that two sources hold counts once, one that a source holds twice counts twice."""
    columns = [column.name for column in SCHEMAS[name].columns]
    source = pd.Series([place for place, length in enumerate(lengths) for _ in range(length)], index=joined.index)
    nth = joined[columns].assign(source=source).groupby([*columns, "source"], dropna=False).cumcount()
    return joined[~joined[columns].assign(nth=nth).duplicated()]
