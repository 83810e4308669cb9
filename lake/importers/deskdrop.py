"""Import the public Deskdrop tables: articles shared and read in a company, as the CSV files that were published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from lake.errors import TableError
from lake.importers.base import Context, Imported
from lake.importers.zones import zone_of
from lake.table_columns import BadValueError, Kind, Number, as_text
from lake.table_files import WRAPPERS, Expected, read_file
from lake.tables import ID, NAME, TEXT, TITLE, URL, check_frame

INTERACTIONS, ARTICLES = "users_interactions", "shared_articles"
KINDS = {"VIEW": "view", "LIKE": "like", "BOOKMARK": "bookmark", "COMMENT CREATED": "comment", "FOLLOW": "follow"}
SHARED, REMOVED = "CONTENT SHARED", "CONTENT REMOVED"
CHANNEL = "in_app"

_RULES: dict[str, Kind] = {
    "timestamp": Number(0, 2**33, whole=True, above_low=True),
    "eventType": NAME,
    "contentId": ID,
    "personId": ID,
    "authorPersonId": ID,
    "contentType": NAME,
    "url": URL,
    "title": TITLE,
    "text": TEXT,
}
"""What a published column must hold, so that an error names the row of the published file."""
_INTERACTION_COLUMNS = {"timestamp": "at", "eventType": "kind", "contentId": "item_id", "personId": "user_id"}
_INTERACTION_EXTRAS = {"sessionId": "session_id", "userRegion": "region", "userCountry": "country"}
_ARTICLE_COLUMNS = {"timestamp": "at", "eventType": "change", "contentId": "item_id"}
_ARTICLE_EXTRAS = {
    "authorPersonId": "author_id",
    "contentType": "kind",
    "url": "url",
    "title": "title",
    "text": "text",
    "lang": "language",
}


class DeskdropImporter:
    """`users_interactions.csv` and, beside it or given on its own, `shared_articles.csv`; plain, gzipped or zipped."""

    def recognises(self, source: str) -> bool:
        """Return whether the source is one of the two files or a folder with the interactions."""
        return bool(_files(Path(source)))

    def read(self, source: str, context: Context) -> Imported:
        """Return users, items and events; raises InputError for a file that is not as it was published."""
        found = _files(Path(source))
        if not found:
            raise TableError(INTERACTIONS, None, None, f"is missing; {source} holds neither {INTERACTIONS}.csv nor {ARTICLES}.csv")
        tables: dict[str, pd.DataFrame] = {}
        for name, path in found.items():
            context.progress(f"reading {path.name}", 0, None)
            tables |= _interactions(path) if name == INTERACTIONS else _articles(path)
        return Imported({name: check_frame(frame, name) for name, frame in tables.items()}, {})


def _files(path: Path) -> dict[str, Path]:
    """Return the published files that a source is or holds, by name."""
    ends = ["", *WRAPPERS]
    names = {f"{name}.csv{end}": name for name in (INTERACTIONS, ARTICLES) for end in ends}
    if path.is_dir():
        return {name: path / file for file, name in reversed(names.items()) if (path / file).is_file()}
    return {names[path.name]: path} if path.name in names and path.is_file() else {}


def _interactions(path: Path) -> dict[str, pd.DataFrame]:
    rows = _published(path, INTERACTIONS, _INTERACTION_COLUMNS, _INTERACTION_EXTRAS)
    rows["kind"] = rows["kind"].replace(KINDS).str.lower()
    places = rows[["user_id", "country", "region"]].value_counts(dropna=False, sort=True).reset_index()
    places = places.dropna(subset="country").drop_duplicates("user_id").set_index("user_id")  # where a user was most often seen
    users = pd.DataFrame({"user_id": rows["user_id"].drop_duplicates(ignore_index=True)})
    zones = pd.Series(
        [
            zone_of(country, region if isinstance(region, str) else None)
            for country, region in zip(places["country"], places["region"], strict=True)
        ],
        index=places.index,
        dtype="str",
    )
    return {"users": users.assign(timezone=users["user_id"].map(zones)), "events": rows.drop(columns=["country", "region"])}


def _articles(path: Path) -> dict[str, pd.DataFrame]:
    rows = _published(path, ARTICLES, _ARTICLE_COLUMNS, _ARTICLE_EXTRAS).sort_values("at", kind="stable")
    first = rows[rows["change"] == SHARED].drop_duplicates("item_id").set_index("item_id")
    last = rows.drop_duplicates("item_id", keep="last").set_index("item_id")
    removed = last["at"].where(last["change"] == REMOVED).reindex(first.index)
    items = first.drop(columns="change").rename(columns={"at": "created_at"}).assign(kind=first["kind"].str.lower(), expires_at=removed)
    return {"items": items.reset_index()}


def _published(path: Path, name: str, columns: dict[str, str], extras: dict[str, str]) -> pd.DataFrame:
    """Return the columns of a published file under our names, as text, times as timestamps; raises TableError."""
    table = read_file(path, Expected(frozenset(columns | extras)))
    read = {}
    for theirs, ours in (columns | extras).items():
        if theirs in table.column_names:
            read[ours] = _column(table.column(theirs), name, theirs, path)
        elif theirs in columns:
            raise TableError(name, theirs, None, f"is missing; the columns found are {', '.join(table.column_names)}", str(path))
        else:
            read[ours] = pa.nulls(table.num_rows, pa.large_string())
    rows: pd.DataFrame = pa.table(read).to_pandas()
    return rows.assign(at=pd.to_datetime(rows["at"], unit="s", utc=True))


def _column(column: pa.ChunkedArray, table: str, name: str, path: Path) -> pa.Array:
    try:
        return _RULES[name].read(column) if name in _RULES else as_text(column)
    except BadValueError as bad:
        raise TableError(table, name, None if bad.row is None else bad.row + 1, bad.problem, str(path)) from None
