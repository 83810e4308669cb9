"""What is known by now: the tables that a deployment began with, and what has happened since, as one dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lake.dataset import Dataset
from lake.decision_log import TABLE as DECISIONS
from lake.history import History
from lake.items import ItemRow, ItemStore
from lake.mixed_columns import uniform
from lake.profiles import NO_OFFSET, Profiles, ProfileStore, without_guesses
from lake.user_keys import UserKeys

EVENTS = "events"
SENT = ("send", "update")
PAGE = 2_000

_TIME, _TEXT = pa.timestamp("ns", tz="UTC"), pa.string()
_EVENT_COLUMNS = {
    **dict.fromkeys(("user_key", "kind", "item_id", "channel", "event_id", "send_id"), _TEXT),
    "at": _TIME,
    "utc_offset_minutes": pa.float64(),
}
_SEND_COLUMNS = {
    **dict.fromkeys(("user_key", "item_id", "channel", "disposition", "grant_id"), _TEXT),
    "at": _TIME,
    "propensity": pa.float64(),
}


@dataclass(frozen=True)
class Living:
    """Where a running deployment keeps what happened since it began.

    `history`: events and decisions, by users' random keys, which `user_keys` tells. `profiles`: of everybody who has not been erased.
    """

    history: History
    user_keys: UserKeys
    profiles: ProfileStore
    items: ItemStore


def collected(began: Dataset | None, living: Living, until: float) -> Dataset | None:
    """Return users, items, events and sends as known before `until` (seconds); None where nobody has done anything yet.

    `began`: the tables that were loaded, if any; whoever has no profile any more is left out of them with all they did. Of events and
    sends what happened up to the last row of the tables is theirs to tell, and the history's after that.
    """
    tables = {} if began is None else dict(began.tables)
    users = sorted(living.profiles.everybody())
    by_key = _by_key(living.user_keys, users)
    found = {
        "users": _users(tables.get("users"), users, _profiles(living.profiles, users)),
        "items": _items(tables.get("items"), living.items),
        "events": _later(tables.get("events"), living.history, EVENTS, _EVENT_COLUMNS, by_key, until),
        "sends": _later(tables.get("sends"), living.history, DECISIONS, _SEND_COLUMNS, by_key, until, pc.field("disposition").isin(SENT)),
    }
    for name in ("events", "sends"):
        found[name] = found[name][found[name]["user_id"].isin(users)]
    if not len(found["events"]):
        return None
    return Dataset.of({name: frame for name, frame in found.items() if len(frame)}, pd.Timestamp(until, unit="s", tz="UTC"))


def _profiles(store: ProfileStore, user_ids: list[str]) -> Profiles:
    pages = [store.get(user_ids[start : start + PAGE]) for start in range(0, len(user_ids), PAGE)]
    return np.concatenate(pages) if pages else store.get([])


def _by_key(user_keys: UserKeys, user_ids: list[str]) -> dict[str, str]:
    """Return the users of random keys."""
    found: dict[str, str] = {}
    for start in range(0, len(user_ids), PAGE):
        page = user_ids[start : start + PAGE]
        found |= {key: user for key, user in zip(user_keys.known(page), page, strict=True) if key is not None}
    return found


def _users(began: pd.DataFrame | None, user_ids: list[str], profiles: Profiles) -> pd.DataFrame:
    """Return the users table: what profiles hold is later than what the tables said of zones."""
    profiles = without_guesses(profiles)
    offset = profiles["utc_offset_minutes"].astype(np.float64)
    told = pd.DataFrame(
        {
            "user_id": pd.array(user_ids, "string"),
            "timezone": pd.array([zone.decode() or None for zone in profiles["zone"].tolist()], "string"),
            "utc_offset_minutes": np.where(offset == NO_OFFSET, np.nan, offset),
            "created_at": _instants(np.where(profiles["created_at"] == 0, np.nan, profiles["created_at"])),
        }
    )
    if began is None:
        return told
    others = began.drop(columns=[name for name in ("timezone", "utc_offset_minutes", "created_at") if name in began])
    return told.merge(others.astype({"user_id": "string"}), on="user_id", how="left")


def _items(began: pd.DataFrame | None, store: ItemStore) -> pd.DataFrame:
    """Return the items table: those that were put since, as they were put last, in the place of the tables' rows."""
    rows: list[ItemRow] = []
    cursor = ""
    while True:
        changed, following = store.changes(cursor)
        for start in range(0, len(changed), PAGE):
            rows += [row for row in store.get(changed[start : start + PAGE]) if row is not None]
        if following == cursor or not changed:
            break
        cursor = following
    put = uniform(pd.DataFrame([dict(row) for row in {row["item_id"]: row for row in rows}.values()]))
    for name in ("created_at", "expires_at"):
        if name in put:
            put[name] = _instants(put[name].to_numpy(np.float64))
    if began is None or put.empty:
        return put if began is None else began
    return uniform(pd.concat([began[~began["item_id"].isin(put["item_id"])], put], ignore_index=True))


def _later(
    began: pd.DataFrame | None,
    history: History,
    table: str,
    columns: dict[str, pa.DataType],
    by_key: dict[str, str],
    until: float,
    where: pc.Expression | None = None,
) -> pd.DataFrame:
    """Return the rows of a table and those of the history that are later than its last one."""
    last = pd.Timestamp(0, tz="UTC") if began is None or began.empty else began["at"].max()
    rows = history.read(table, last.timestamp(), until, columns=list(columns), where=where, schema=pa.schema(list(columns.items())))
    rows = rows[rows["at"] > last]
    rows = rows.assign(user_id=rows["user_key"].map(by_key)).dropna(subset=["user_id"]).drop(columns=["user_key"])
    rows = rows.drop(columns=["disposition"], errors="ignore").assign(at=rows["at"].dt.as_unit("us"))
    return rows.reset_index(drop=True) if began is None else pd.concat([began, rows], ignore_index=True)


def _instants(seconds: npt.NDArray[np.float64]) -> pd.Series[pd.Timestamp]:
    """Return epoch seconds as UTC timestamps, NaN as none."""
    whole = np.where(np.isnan(seconds), np.iinfo(np.int64).min, np.nan_to_num(seconds) * 1e6).astype(np.int64)
    return pd.Series(whole.view("datetime64[us]")).dt.tz_localize("UTC")
