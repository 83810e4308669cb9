"""Filling a store from tables: profiles, follows, items, and every user's place in the due index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from budgets.allowance import MAX_WEEKLY
from delivery.preferences import applied
from lake.dataset import Dataset
from lake.follows import Followed, FollowStore
from lake.items import MAX_AGE_S, ItemStore, rows_of_frame
from lake.meta import Meta
from lake.profiles import EVERYBODY, NO_WINDOW, WEEK, Profiles, ProfileStore, blank, quarter_of, with_guesses
from scheduler.activity import F32
from scheduler.delivery_delays import earlier
from scheduler.due import DueIndex
from scheduler.send_time import SendTimes
from scheduler.waiting import hours_of
from scheduler.window_counts import WindowRule, spread, window_counts
from scheduler.windows import NO_SLOT, SLOT_S, next_slots_of

WindowsPerWeek = int | WindowRule
BY_HABIT = WindowRule()
PAGE = 2000
DERIVED_FOLLOWS_DAYS = 90
DERIVED_FOLLOWS_LEAST = 2
DERIVED_FOLLOWS_MOST = 20


@dataclass(frozen=True)
class Stores:
    """What loading fills."""

    meta: Meta
    profiles: ProfileStore
    follows: FollowStore
    items: ItemStore
    due: DueIndex


def load(
    dataset: Dataset,
    stores: Stores,
    now: float,
    times: SendTimes,
    *,
    items: bool = True,
    only: Sequence[str] | None = None,
    windows_per_week: WindowsPerWeek = BY_HABIT,
) -> int:
    """Fill the stores with what the tables say as of `now` (seconds) and put users into the due index; returns how many.

    `times`: when users are likely to look (scheduler.send_time.fit).
    `items`: whether to put the live items too; a replay puts each at its own time instead. `only`: these users, else all.
    `windows_per_week`: how many windows each has, or the rule that says.
    Repeating it replaces profiles and follows, and leaves what users were granted as it is.
    """
    users = dataset.users if only is None else dataset.users[dataset.users["user_id"].isin(list(only))]
    dataset = replace(dataset, users=users)
    user_ids = users["user_id"].tolist()
    profiles = profiles_of(dataset, stores.meta, times, windows_per_week)
    put_usual(stores, times, windows_per_week, now)
    followed = follows_of(dataset, now)
    for start in range(0, len(user_ids), PAGE):
        page = user_ids[start : start + PAGE]
        stores.profiles.put(page, profiles[start : start + PAGE])
        stores.profiles.put_weeks(page, weeks_of(page, times, now))
        stores.follows.put(page, [followed.get(user_id, Followed()) for user_id in page])
    _load_addresses(dataset.addresses, stores.profiles, set(user_ids))
    _load_preferences(dataset.preferences, stores, set(user_ids))
    if items:
        live = dataset.items[seconds(dataset.items["created_at"]) > now - MAX_AGE_S]
        for start in range(0, len(live), PAGE):
            stores.items.put(rows_of_frame(live.iloc[start : start + PAGE]))
    enroll(user_ids, stores, now)
    return len(user_ids)


def enroll(user_ids: Sequence[str], stores: Stores, now: float) -> None:
    """Put users into the slot of their next window; users without windows leave the due index."""
    for start in range(0, len(user_ids), PAGE):
        page = list(user_ids[start : start + PAGE])
        slots, _ = next_slots_of(stores.profiles.get(page), now)
        waiting = slots != NO_SLOT
        stores.due.enroll([user for user, due in zip(page, waiting, strict=True) if due], slots[waiting])
        stores.due.remove([user for user, due in zip(page, waiting, strict=True) if not due])


def reenroll(user_ids: Sequence[str], stores: Stores, now: float) -> None:
    """Put users whose windows may have changed into the slot of their next one, as `enroll` does.

    Whoever is due already stays so: their window is decided first, and the commit moves them on.
    """
    for start in range(0, len(user_ids), PAGE):
        page = list(user_ids[start : start + PAGE])
        waits = stores.due.slots(page).tolist()
        enroll([user for user, slot in zip(page, waits, strict=True) if slot < 0 or slot > now // SLOT_S], stores, now)


def profiles_of(dataset: Dataset, meta: Meta, times: SendTimes, windows_per_week: WindowsPerWeek) -> Profiles:
    """Return the profiles of the users table, in its order: zone, windows, budgets, preferences, addressed channels."""
    users = dataset.users.set_index("user_id", drop=False)
    rows = with_guesses(told_of(users), *times.usual)
    if "created_at" in users:
        rows["created_at"] = seconds(users["created_at"].fillna(pd.Timestamp(0, tz="UTC")))
    _apply_budgets(rows, dataset.budgets, users.index, meta)
    _apply_addressed(rows, dataset.addresses, users.index, meta)
    rows = applied(rows, preference_rows(dataset.preferences, users.index), meta)
    scores, user_ids = times.for_users(users.index.tolist()), users.index.tolist()
    counts = counted(scores, rows, meta, windows_per_week)
    rows["windows"], rows["window_share"] = _windows(scores, counts, quarter_of(user_ids), ahead_of(windows_per_week))
    rows["hours"] = hours_of(scores)
    return rows


def told_of(users: pd.DataFrame) -> Profiles:
    """Return blank profiles with what the users table says of clock, language and place, in its order."""
    rows = blank(len(users))
    if "timezone" in users:
        rows["zone"] = users["timezone"].fillna("").astype(str).str.encode("ascii").to_numpy("S32")
    if "locale" in users:
        rows["locale"] = users["locale"].fillna("").astype(str).str.encode("ascii", "ignore").to_numpy("S16")
    for side, column in enumerate(("latitude", "longitude")):
        if column in users:
            rows["place"][:, side] = users[column].to_numpy(np.float32, na_value=np.nan)
    if "utc_offset_minutes" in users:
        known = users["utc_offset_minutes"].notna().to_numpy()
        rows["utc_offset_minutes"][known] = users["utc_offset_minutes"].dropna().to_numpy(np.int16)
    return rows


def windows_of(user_ids: list[str], times: SendTimes, per_week: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Return the `windows` and `window_share` of profiles, (users, MAX_WINDOWS) each, by when users are likely to look."""
    return _windows(times.for_users(user_ids), np.full(len(user_ids), per_week), quarter_of(user_ids), 0.0)


def counted(scores: F32, profiles: Profiles, meta: Meta, windows_per_week: WindowsPerWeek) -> npt.NDArray[np.int64]:
    """Return how many windows users have, (n,): a number for all, or by a rule."""
    if isinstance(windows_per_week, WindowRule):
        return window_counts(scores, profiles, meta, windows_per_week)
    return np.full(len(scores), windows_per_week, np.int64)


def ahead_of(windows_per_week: WindowsPerWeek) -> float:
    """Return the seconds by which windows open earlier, for messages are on their way so long."""
    return windows_per_week.ahead_s if isinstance(windows_per_week, WindowRule) else 0.0


def weeks_of(user_ids: list[str], times: SendTimes, now: float) -> npt.NDArray[np.void]:
    """Return when users are likely to look, as of `now` (seconds), for people to look at: rows of WEEK, (n,)."""
    scores = times.for_users(user_ids)
    rows = np.zeros(len(user_ids), WEEK)
    rows["scores"] = np.rint(255 * scores / np.maximum(scores.max(axis=1, keepdims=True, initial=0.0), np.float32(1e-12)))
    rows["rests_on"], rows["as_of"] = times.rests_on(user_ids), now
    return rows


def put_usual(stores: Stores, times: SendTimes, windows_per_week: WindowsPerWeek, now: float) -> None:
    """Let whoever is new from now on begin with the windows at which most people look, and keep when that is."""
    stores.profiles.put_weeks([EVERYBODY], weeks_of([EVERYBODY], times, now))
    row, scores = with_guesses(blank(1), *times.usual), times.population[None, :]
    counts = counted(scores, row, stores.meta, windows_per_week)
    row["windows"], row["window_share"] = _windows(scores, counts, np.zeros(1, np.uint16), ahead_of(windows_per_week))
    row["hours"] = hours_of(scores)
    stores.profiles.put_usual(row)


def _windows(
    scores: F32, counts: npt.NDArray[np.integer], quarter: npt.NDArray[np.uint16], ahead_s: float
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    windows = spread(scores, counts.astype(np.int64), quarter)
    there = windows != NO_WINDOW
    score = np.where(there, np.take_along_axis(scores, np.where(there, windows, 0).astype(np.intp) // 4, axis=1), 0)
    likeliest = score.max(axis=1, keepdims=True, initial=np.float32(1e-12))
    return earlier(windows, ahead_s), np.where(there, np.clip(np.rint(255 * score / likeliest), 1, 255), 0).astype(np.uint8)


def move_windows(user_ids: list[str], stores: Stores, now: float, times: SendTimes, windows_per_week: WindowsPerWeek = BY_HABIT) -> None:
    """Give users the windows at which they are likely to look by now, and their place in the due index; see `reenroll`.

    Who chose a time of their own keeps it: it is no part of the windows that are written here.
    """
    put_usual(stores, times, windows_per_week, now)
    for start in range(0, len(user_ids), PAGE):
        page = user_ids[start : start + PAGE]
        scores, profiles = times.for_users(page), stores.profiles.get(page)
        guess_clocks(page, profiles, stores.profiles, times)
        counts = counted(scores, profiles, stores.meta, windows_per_week)
        windows, shares = _windows(scores, counts, quarter_of(page), ahead_of(windows_per_week))
        stores.profiles.write(page, "windows", windows)
        stores.profiles.write(page, "window_share", shares)
        stores.profiles.write(page, "hours", hours_of(scores))
        stores.profiles.put_weeks(page, weeks_of(page, times, now))
        reenroll(page, stores, now)


def guess_clocks(user_ids: list[str], profiles: Profiles, store: ProfileStore, times: SendTimes) -> None:
    """Let those who told neither zone nor offset go by what most do by now: their hours were learned by it."""
    guessed = with_guesses(profiles, *times.usual)
    clock = ("zone", "utc_offset_minutes", "flags")
    changed = np.flatnonzero(np.any([guessed[name] != profiles[name] for name in clock], axis=0))
    for name in clock if len(changed) else ():
        store.write([user_ids[place] for place in changed.tolist()], name, guessed[name][changed])


def preference_rows(preferences: pd.DataFrame, users: pd.Index[str]) -> list[list[dict[str, Any]]]:
    """Return each user's rows of a preferences table, as plain rows."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of_frame(preferences):
        grouped.setdefault(row.pop("user_id"), []).append(row)
    return [grouped.get(user_id, []) for user_id in users]


def _apply_budgets(rows: Profiles, budgets: pd.DataFrame, users: pd.Index[str], meta: Meta) -> None:
    known = budgets[budgets["user_id"].isin(users)]
    codes = np.array(meta.channel_codes(known["channel"].tolist()), np.intp)
    rows["budget"][users.get_indexer(pd.Index(known["user_id"])), codes] = np.minimum(known["weekly"].to_numpy(np.int64), MAX_WEEKLY)


def _apply_addressed(rows: Profiles, addresses: pd.DataFrame, users: pd.Index[str], meta: Meta) -> None:
    known = addresses[addresses["user_id"].isin(users)]
    bits = np.uint32(1) << np.array(meta.channel_codes(known["channel"].tolist()), np.uint32)
    addressed = rows["addressed"].copy()
    np.bitwise_or.at(addressed, users.get_indexer(pd.Index(known["user_id"])), bits)
    rows["addressed"] = addressed


def _load_addresses(addresses: pd.DataFrame, profiles: ProfileStore, users: set[str]) -> None:
    for user_id, mine in addresses[addresses["user_id"].isin(users)].groupby("user_id"):
        profiles.put_addresses(str(user_id), dict(zip(mine["channel"], mine["address"], strict=True)))


def _load_preferences(preferences: pd.DataFrame, stores: Stores, only: set[str]) -> None:
    users = pd.Index([user_id for user_id in preferences["user_id"].unique() if user_id in only])
    for user_id, rows in zip(users, preference_rows(preferences, users), strict=True):
        stores.profiles.put_preferences(user_id, rows)


def follows_of(dataset: Dataset, now: float) -> dict[str, Followed]:
    """Return what users follow: the follows table, or where it is empty the topics they engaged with lately.

    Only topics are derived: engaging with somebody's post is weaker than following them.
    """
    follows = dataset.follows if len(dataset.follows) else derived_follows(dataset, now)
    found: dict[str, Followed] = {}
    for column in ("topic", "author_id"):
        if column not in follows:
            continue
        given = follows[follows[column].notna()]
        for user_id, names in given.groupby("user_id")[column].agg(tuple).items():
            old = found.get(str(user_id), Followed())
            found[str(user_id)] = Followed(names, old.authors) if column == "topic" else Followed(old.topics, names)
    return found


def derived_follows(dataset: Dataset, now: float) -> pd.DataFrame:
    """Return (user_id, topic) of topics with at least 2 engagements in the 90 days before `now`, the 20 most engaged per user."""
    nothing = pd.DataFrame({"user_id": pd.Series(dtype=object), "topic": pd.Series(dtype=object)})
    if "topics" not in dataset.items:
        return nothing
    age_s = now - seconds(dataset.events["at"])
    recent = dataset.events[(age_s > 0) & (age_s <= DERIVED_FOLLOWS_DAYS * 86400)][["user_id", "item_id"]]
    topics = dataset.items[["item_id", "topics"]].explode("topics").dropna().rename(columns={"topics": "topic"})
    counts = recent.merge(topics, on="item_id").groupby(["user_id", "topic"]).size().rename("n").reset_index()
    counts = counts[counts["n"] >= DERIVED_FOLLOWS_LEAST].sort_values("n", ascending=False, kind="stable")
    return counts.groupby("user_id").head(DERIVED_FOLLOWS_MOST)[["user_id", "topic"]] if len(counts) else nothing


def seconds(times: pd.Series[pd.Timestamp]) -> npt.NDArray[np.float64]:
    """Return UTC timestamps as epoch seconds."""
    return np.asarray(times.to_numpy("datetime64[us]").astype(np.int64) / 1e6, np.float64)
