"""The log of what people did, as coded columns: the one thing that features, labels and training rows are computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lake.dataset import Dataset
from lake.ids import Keys64, author_key
from lake.items import Items
from ranking.labels import DAY_S, LabelRule

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


_OF_EVENTS = ("user", "item", "at", "is_own", "is_first", "is_strong", "worth", "hour")
_OF_SENDS = ("send_user", "send_item", "send_channel", "send_at", "send_engaged_at")


@dataclass(frozen=True)
class Past:
    """Users, items, engagements and sends, dictionary-encoded; engagements and sends are in the order of time.

    `user`, `item` (-1: none), `at`: one row per engagement. `is_own`: the user made the item. `is_first`: the user's
    first engagement with the item. `is_strong`: a kind of more commitment than a view. `worth`: by its kind, at most 1.
    `hour`: of the day, local. `zone`:
    IANA name or "". `offset_minutes`: from UTC, of the users table, NaN: unknown. `latitude`,
    `longitude`: degrees, NaN: unknown. `told_*`: events that told an offset.
    `send_*`: one row per send;
    `send_engaged_at`: NaN: not known to have led to anything.
    """

    user_ids: npt.NDArray[np.object_]
    user_key: Keys64
    zone: npt.NDArray[np.object_]
    offset_minutes: Floats
    latitude: npt.NDArray[np.float32]
    longitude: npt.NDArray[np.float32]
    told_user: Codes
    told_at: Floats
    told_minutes: Floats
    items: Items
    user: Codes
    item: Codes
    at: Floats
    is_own: Bools
    is_first: Bools
    is_strong: Bools
    worth: Floats
    hour: Codes
    send_user: Codes
    send_item: Codes
    send_channel: npt.NDArray[np.object_]
    send_at: Floats
    send_engaged_at: Floats

    @staticmethod
    def of(dataset: Dataset, rule: LabelRule | None = None) -> Past:
        """Return the coded columns of a dataset; kinds that are no engagement are left out."""
        rule = rule or LabelRule()
        users = pd.Index(dataset.users["user_id"])
        items = Items.from_frame(dataset.items)
        item_index = pd.Index(items.ids)
        kind, kinds = pd.factorize(dataset.events["kind"].to_numpy())
        engaging = np.asarray(rule.is_engagement(kinds.astype(object)), bool)[kind]
        events = dataset.events[engaging]
        user, item = _codes(users, events["user_id"]), _codes(item_index, events["item_id"])
        keys = author_key(users.to_numpy(object))
        told = events["utc_offset_minutes"].notna().to_numpy()
        return Past(
            user_ids=users.to_numpy(object),
            user_key=keys,
            zone=dataset.users["timezone"].fillna("").to_numpy(object),
            offset_minutes=dataset.users["utc_offset_minutes"].to_numpy(np.float64),
            latitude=dataset.users["latitude"].to_numpy(np.float32),
            longitude=dataset.users["longitude"].to_numpy(np.float32),
            told_user=user[told],
            told_at=seconds(events["at"])[told],
            told_minutes=events["utc_offset_minutes"].to_numpy(np.float64)[told],
            items=items,
            user=user,
            item=item,
            at=seconds(events["at"]),
            is_own=(item >= 0) & (items.author[item] == keys[user]) if len(items) else np.zeros(len(user), bool),
            is_first=(item >= 0) & ~pd.DataFrame({"user": user, "item": item}).duplicated().to_numpy(),
            is_strong=~events["kind"].isin(rule.weak).to_numpy(),
            worth=rule.weights(kinds.astype(object))[kind[engaging]],
            hour=_local_hours(events, user, dataset.users),
            send_user=_codes(users, dataset.sends["user_id"]),
            send_item=_codes(item_index, dataset.sends["item_id"]),
            send_channel=dataset.sends["channel"].to_numpy(object),
            send_at=seconds(dataset.sends["at"]),
            send_engaged_at=seconds(dataset.sends["engaged_at"]),
        )

    def part(self, events: Bools, sends: Bools) -> Past:
        """Return the same users and items with only some of the engagements and sends, bool (n,) each."""
        kept = {name: getattr(self, name)[events] for name in _OF_EVENTS}
        kept |= {name: getattr(self, name)[sends] for name in _OF_SENDS}
        return replace(self, **kept)

    def events_before(self, at: float) -> npt.NDArray[np.int64]:
        """Return how many engagements each user had before a moment, shape (users,)."""
        return np.bincount(self.user[self.at < at], minlength=len(self.user_ids))

    def refresh_days(self) -> Floats:
        """Return the midnights (UTC, seconds) by which something new was known: each ends a day with engagements."""
        return np.unique(np.floor(self.at / DAY_S) + 1) * DAY_S

    def refreshed_at(self, at: Floats) -> Floats:
        """Return the moment of the offline state in force at each `at`: the last midnight, or the one a gap began at.

        Where nothing at all was recorded for days (the collection was down, or the log ends), people have not gone
        quiet: the state stays as of the end of the last day with engagements.
        """
        midnight = np.floor(at / DAY_S) * DAY_S
        days = self.refresh_days()
        place = np.searchsorted(days, midnight, side="right") - 1
        return np.where(place >= 0, days[np.maximum(place, 0)], midnight) if len(days) else midnight

    def offsets_at(self, at: float) -> npt.NDArray[np.float32]:
        """Return every user's offset from UTC in minutes at a moment, shape (users,).

        By the user's zone, else by the latest event before `at` that told one, else 0; whoever never tells any goes by the users table,
        which may hold of the others what they told last, later than `at`.
        """
        minutes = np.where(np.isin(np.arange(len(self.zone)), self.told_user), 0.0, np.nan_to_num(self.offset_minutes))
        earlier = slice(0, int(np.searchsorted(self.told_at, at)))
        minutes[self.told_user[earlier]] = self.told_minutes[earlier]
        for zone in set(self.zone) - {""}:
            offset = pd.Timestamp(at, unit="s", tz=ZoneInfo(zone)).utcoffset()
            assert offset is not None
            minutes[self.zone == zone] = offset.total_seconds() / 60
        return minutes.astype(np.float32)


def seconds(times: pd.Series[pd.Timestamp]) -> Floats:
    """Return UTC timestamps as epoch seconds, NaN where missing."""
    whole = times.to_numpy("datetime64[us]")
    return np.where(np.isnat(whole), np.nan, whole.astype(np.int64) / 1e6)


def _codes(index: pd.Index[str], ids: pd.Series[str]) -> Codes:
    """Return the places of ids, -1: not there; by Arrow, for millions of ids as objects of their own would take gigabytes."""
    known = pa.array(index.to_numpy(object), pa.large_string())
    return pc.index_in(pa.array(ids, pa.large_string()), known).fill_null(-1).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _local_hours(events: pd.DataFrame, user: Codes, users: pd.DataFrame) -> Codes:
    """Return the local hour of each event: by its own offset, else by the user's zone, the user's latest event that told
    an offset, or the users table, else in UTC.
    """
    own = events["utc_offset_minutes"]
    earlier = own.groupby(user).ffill()
    table = users["utc_offset_minutes"].take(user).set_axis(events.index).where(~own.notna().groupby(user).transform("any"))
    zoned = pd.Series(_zone_minutes(events["at"], users["timezone"].to_numpy(object)[user]), index=events.index)
    minutes = own.fillna(zoned).fillna(earlier).fillna(table).fillna(0.0)
    hours: Codes = ((seconds(events["at"]) + 60 * minutes.to_numpy()) // 3600 % 24).astype(np.int32)
    return hours


def _zone_minutes(at: pd.Series[pd.Timestamp], zone: npt.NDArray[np.object_]) -> Floats:
    """Return the offset of each moment in its zone, NaN without one."""
    minutes = np.full(len(at), np.nan)
    for name in {name for name in zone if isinstance(name, str)}:
        there = zone == name
        local = at[there].dt.tz_convert(ZoneInfo(name)).dt.tz_localize(None)
        minutes[there] = (local - at[there].dt.tz_localize(None)).dt.total_seconds() / 60
    return minutes
