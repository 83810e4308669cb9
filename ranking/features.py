"""The one definition of every feature, for training, replay, scoring and serving. Pure: blocks of state in, a matrix out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64
from lake.places import great_circle_km
from ranking.blocks import (
    AUTHOR_AFFINITY,
    AUTHOR_STATS,
    DAYS,
    DECAYED,
    HOURS_OF_WEEK,
    ITEM_COUNTS,
    TOPIC_AFFINITY,
    TOPIC_STATS,
    USER_STATS,
    ItemBlock,
    Lists,
    Matrix,
    UserBlock,
)

VERSION = 5
"""Counts up when a feature changes its meaning; a bundle of another version does not serve."""

USER_FEATURES = (
    "user_engaged_3d",
    "user_engaged_14d",
    "user_engaged_90d",
    "user_own_90d",
    "user_strong_share",
    "user_active_days_28d",
    "user_recency_h",
    "user_tenure_d",
    "user_item_age_log",
    "user_sent_1d",
    "user_sent_7d",
    "user_sent_28d",
    "user_answered_28d",
    "user_answer_rate",
)
ITEM_FEATURES = (
    "item_age_h",
    "item_age_active",
    "item_users_per_active",
    "item_events",
    "item_users",
    "item_users_1h",
    "item_users_1d",
    "item_users_7d",
    "item_quiet_h",
    "item_topics",
    "author_items_90d",
    "author_engaged_14d",
    "author_rate_90d",
    "author_recency_h",
    "topic_items_least",
    "topic_rate_most",
    "topic_rate_mean",
)
ROW_FEATURES = ("channel", "local_hour", "local_day", "hour_fit", "seen_since_h", "touched_since", "distance_km")
AUTHOR_FEATURES = ("by_author_30d", "by_author_180d", "back_author_180d", "by_author_sent", "by_author_rate")
TOPIC_COLUMNS = ("by_topic_30d", "by_topic_180d", "own_topic_180d", "by_topic_sent", "by_topic_rate", "by_topic_share")
TOPIC_FEATURES = (*(f"{name}_most" for name in TOPIC_COLUMNS), *(f"{name}_sum" for name in TOPIC_COLUMNS))
VECTOR_FEATURES = ("likeness", "likeness_mean", "likeness_author", "likeness_audience", "likeness_angle")
TEXT_FEATURES = ("text_likeness", "text_angle")
KIND_FEATURES = ("by_kind_sent",)
FEATURES = (
    *USER_FEATURES,
    *ITEM_FEATURES,
    *ROW_FEATURES,
    *AUTHOR_FEATURES,
    *TOPIC_FEATURES,
    *VECTOR_FEATURES,
    *TEXT_FEATURES,
    *KIND_FEATURES,
)
"""The names and the order of the columns."""

NO_CHANNEL = 255
"""The channel code of a row whose channel is not known to the model."""

DENSE_CELLS = 4_000_000
"""Up to this many (user, key) cells affinities are looked up in a dense table, beyond it by binary search."""

DAY_S = 86400.0
WEEK_S = 7 * DAY_S
WEEK_HOURS_S = np.arange(HOURS_OF_WEEK + 1) * 3600.0
LEAST_LENGTH = np.float32(1e-3)
"""Added to the product of two vectors' lengths before dividing by it: far less than one engagement makes."""
LEAST_ACTIVE_WEEKS = 0.02
"""Added to an age before dividing by it: about as long as the first engagements take to come."""

_USER = {name: place for place, name in enumerate(USER_STATS)}
_AUTHOR = {name: place for place, name in enumerate(AUTHOR_STATS)}
_COUNT = {name: place for place, name in enumerate(ITEM_COUNTS)}
_TOPIC = {name: place for place, name in enumerate(TOPIC_STATS)}


def assemble(
    users: UserBlock,
    items: ItemBlock,
    user: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    channel: npt.NDArray[np.uint8],
) -> Matrix:
    """Return the feature matrix of rows, float32 (n, len(FEATURES)), C-contiguous; the moment of a row is its item row's `at`.

    `user`, `item`: codes into the blocks. `channel`: codes of the model's channels, 255 for one it has not seen.
    """
    return Assembler(users, items).rows(user, item, channel)


class Affinities:
    """The entries of affinity lists whose keys occur among some distinct keys, found by (user, code of the key)."""

    def __init__(self, lists: Lists, keys: Keys64, values: Matrix, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]) -> None:
        self._keys = len(keys) + 1
        self._width = values.shape[1]
        users = len(lists.start) - 1
        owner = np.searchsorted(lists.start, rows, side="right") - 1
        place = owner * self._keys + codes
        self._dense: Matrix | None = None
        if users * self._keys <= DENSE_CELLS:
            self._dense = np.zeros((users * self._keys, self._width), np.float32)
            self._dense[place] = values
        else:
            self._place = np.append(place, np.iinfo(np.int64).max)
            self._values = np.append(values, np.zeros((1, self._width), np.float32), axis=0)

    def __call__(self, user: npt.NDArray[np.int32], code: npt.NDArray[np.int64]) -> Matrix:
        """Return the values of pairs, one row each, zero where the user has no such entry."""
        place = user.astype(np.int64) * self._keys + code
        if self._dense is not None:
            return self._dense.take(place, axis=0)
        found = np.searchsorted(self._place, place)
        return self._values.take(np.where(self._place[found] == place, found, len(self._values) - 1), axis=0)


def _present(lists: Lists, keys: Keys64) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the entries whose key is among the ascending `keys`, and the codes of their keys."""
    if not len(keys) or not len(lists.key):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    codes = np.minimum(np.searchsorted(keys, lists.key), len(keys) - 1)
    rows = np.flatnonzero(keys[codes] == lists.key)
    return rows, codes[rows]


@dataclass(frozen=True)
class Assembler:
    """Features of rows of two blocks: what depends on the user or on the item alone is computed once, then gathered."""

    users: UserBlock
    items: ItemBlock

    def rows(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32], channel: npt.NDArray[np.uint8]) -> Matrix:
        """Return the features of rows; see `assemble`. Call it for some thousands of rows at a time."""
        out = np.empty((len(user), len(FEATURES)), np.float32)
        parts = (
            self._user_features.take(user, axis=0),
            self._item_features.take(item, axis=0),
            self._of_row(user, item, channel),
            self._of_author(user, item),
            self._of_topics(user, item),
            self._of_vectors(user, item),
            self._of_texts(user, item),
            self._of_kind(user, item),
        )
        return np.concatenate(parts, axis=1, out=out)

    @cached_property
    def _user_features(self) -> Matrix:
        stats = self.users.stats
        plain = [name.removeprefix("user_") for name in USER_FEATURES]
        derived = {"strong_share": self._strong_share, "answer_rate": self._answer_rate}
        columns = [stats[:, _USER[name]] if name in _USER else derived[name] for name in plain]
        return np.stack(columns, axis=1)

    @property
    def _answer_rate(self) -> Matrix:
        """Return the share of recent notifications that were answered, as of someone who answered one of ten before that."""
        stats = self.users.stats
        return ((stats[:, _USER["answered_28d"]] + np.float32(1)) / (stats[:, _USER["sent_28d"]] + np.float32(10))).astype(np.float32)

    @property
    def _strong_share(self) -> Matrix:
        stats = self.users.stats
        return (stats[:, _USER["strong_90d"]] / (stats[:, _USER["events_90d"]] + np.float32(1))).astype(np.float32)

    @cached_property
    def _item_features(self) -> Matrix:
        items, counts, author = self.items, self.items.counts, self.items.author_stats
        since_s = items.at - counts[:, _COUNT["last_at"]]
        decayed = [
            counts[:, _COUNT[name]] * np.exp2(-np.nan_to_num(since_s, posinf=0.0) / half_life) for name, half_life in DECAYED.items()
        ]
        active = self._active_age
        columns = [
            (items.at - items.created_at) / 3600,
            active,
            counts[:, _COUNT["users"]] / (active + LEAST_ACTIVE_WEEKS),
            counts[:, _COUNT["events"]],
            counts[:, _COUNT["users"]],
            *decayed,
            since_s / 3600,
            (items.topics != 0).sum(axis=1),
            author[:, _AUTHOR["items_90d"]],
            author[:, _AUTHOR["engaged_14d"]],
            (author[:, _AUTHOR["engaged_90d"]] + 3) / (author[:, _AUTHOR["items_90d"]] + 1),
            author[:, _AUTHOR["recency_h"]],
            *self._topic_summary,
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    @property
    def _active_age(self) -> npt.NDArray[np.float64]:
        """Return the age of items in weeks of activity: nights and weekends count as little as people do then."""
        week = self.items.week

        def clock(moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return moment // WEEK_S + np.interp(moment % WEEK_S, WEEK_HOURS_S, week)

        return clock(self.items.at) - clock(self.items.created_at)

    @property
    def _topic_summary(self) -> list[npt.NDArray[np.float64]]:
        """Return, per item: the rarest topic's items, the highest and the mean rate of engagement over its topics."""
        stats, codes = self.items.topic_stats, self._topic_codes
        padded = np.append(stats, np.full((1, len(TOPIC_STATS)), np.nan, np.float32), axis=0).astype(np.float64)[codes]
        rate = (padded[..., _TOPIC["engaged_180d"]] + 1) / (padded[..., _TOPIC["items_180d"]] + 2)
        has = (self.items.topics != 0).any(axis=1)
        some = np.maximum((self.items.topics != 0).sum(axis=1), 1)
        least = np.where(np.isnan(rate), np.inf, padded[..., _TOPIC["items_180d"]]).min(axis=1)
        most, mean = np.nan_to_num(rate, nan=-1).max(axis=1), np.nansum(rate, axis=1) / some
        return [np.where(has, column, np.nan) for column in (least, most, mean)]

    def _of_row(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32], channel: npt.NDArray[np.uint8]) -> Matrix:
        out = np.empty((len(user), len(ROW_FEATURES)), np.float32)
        hours = np.floor_divide(self.items.at[item] + self._offset_s[user], 3600.0).astype(np.int64)
        out[:, 0] = np.where(channel == NO_CHANNEL, np.nan, channel)
        out[:, 1] = hours % 24
        out[:, 2] = (hours // 24 + 3) % 7
        wide = user.astype(np.int64)
        out[:, 3] = self._hour_fit.take(wide * 24 + hours % 24)
        out[:, 4] = (self._seen_at.take(user) - self.items.created_at.take(item)) / 3600
        days = np.clip((self.users.as_of.take(user) - self.items.created_at.take(item)) / DAY_S, 0.0, len(DAYS))
        whole = np.minimum(days.astype(np.int64), len(DAYS) - 1)
        place = wide * (len(DAYS) + 1) + whole
        low = self._touched_by_day.take(place)
        out[:, 5] = low + (days - whole) * (self._touched_by_day.take(place + 1) - low)
        out[:, 6] = self._distance_km(user, item)
        return out

    def _distance_km(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        """Return the great-circle distance of users from items, NaN where either's place is unknown."""
        places = [
            self.users.stats[:, _USER["latitude"]],
            self.users.stats[:, _USER["longitude"]],
            self.items.latitude,
            self.items.longitude,
        ]
        if any(np.isnan(place).all() for place in places):
            return np.full(len(user), np.nan, np.float32)
        mine, theirs = (np.stack(pair, axis=1) for pair in (places[:2], places[2:]))
        return great_circle_km(mine[user], theirs[item])

    @cached_property
    def _seen_at(self) -> npt.NDArray[np.float64]:
        """When users were last seen, in seconds; NaN: never."""
        return self.users.as_of - self.users.stats[:, _USER["recency_h"]].astype(np.float64) * 3600

    @cached_property
    def _touched_by_day(self) -> Matrix:
        """How many items users touched in the last 0, 1, ... days; flat (U x (DAYS + 1))."""
        daily = self.users.stats[:, _USER[DAYS[0]] : _USER[DAYS[-1]] + 1]
        sums: Matrix = np.concatenate([np.zeros((len(daily), 1), np.float32), np.cumsum(daily, axis=1)], axis=1, dtype=np.float32)
        return sums.ravel()

    @cached_property
    def _offset_s(self) -> npt.NDArray[np.float64]:
        return self.users.stats[:, _USER["offset_minutes"]].astype(np.float64) * 60

    @cached_property
    def _hour_fit(self) -> Matrix:
        """How many times the even share of the user's engagements falls into each local hour, shrunk to 1; flat (U x 24)."""
        hours = self.users.stats[:, _USER["hour_0"] :]
        fit: Matrix = ((hours + 1) * 24 / (hours.sum(axis=1, keepdims=True) + 24)).ravel()
        return fit

    def _of_author(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        found, codes = self._by_author
        return found(user, codes[item])

    @cached_property
    def _by_author(self) -> tuple[Affinities, npt.NDArray[np.int64]]:
        keys, first = np.unique(self.items.author, return_index=True)
        keys, first = keys[keys != 0], first[keys != 0]
        lists = self.users.authors
        rows, codes = _present(lists, keys)
        made = self.items.author_stats[first, _AUTHOR["items_90d"]][codes]
        rate = lists.values[rows, AUTHOR_AFFINITY.index("engaged_180d")] / (made + 1)
        values = np.concatenate([lists.values[rows], rate[:, None]], axis=1, dtype=np.float32)
        return Affinities(lists, keys, values, rows, codes), _codes(self.items.author, keys)

    def _of_topics(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        if not len(self.items.topic_keys):
            return np.zeros((len(user), len(TOPIC_FEATURES)), np.float32)
        out = np.empty((len(user), len(TOPIC_FEATURES)), np.float32)
        most, total = out[:, : len(TOPIC_COLUMNS)], out[:, len(TOPIC_COLUMNS) :]
        codes = self._topic_codes.take(item, axis=0)
        most[:] = total[:] = self._by_topic(user, codes[:, 0])
        for place in range(1, codes.shape[1]):
            rows = np.flatnonzero(codes[:, place] < len(self.items.topic_keys))  # topics are padded at the end, and few items have many
            values = self._by_topic(user[rows], codes[rows, place])
            most[rows] = np.maximum(most[rows], values)
            total[rows] += values
        return out

    @cached_property
    def _by_topic(self) -> Affinities:
        lists, keys, stats = self.users.topics, self.items.topic_keys, self.items.topic_stats
        rows, codes = _present(lists, keys)
        engaged = lists.values[rows, 1]
        rate = engaged / (stats[codes, _TOPIC["items_180d"]] + 2)
        share = engaged / (stats[codes, _TOPIC["engaged_180d"]] + 1)
        values = np.concatenate([lists.values[rows], rate[:, None], share[:, None]], axis=1, dtype=np.float32)
        return Affinities(lists, keys, values, rows, codes)

    @cached_property
    def _topic_codes(self) -> npt.NDArray[np.int64]:
        return _codes(self.items.topics, self.items.topic_keys)

    def _of_vectors(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        out = np.empty((len(user), len(VECTOR_FEATURES)), np.float32)
        mine = self.users.vector.take(user, axis=0)
        np.einsum("ij,ij->i", mine, self.items.vector.take(item, axis=0), out=out[:, 0])
        out[:, 1] = out[:, 0] * self._one_over_users.take(item)
        np.einsum("ij,ij->i", mine, self.items.author_vector.take(item, axis=0), out=out[:, 2])
        np.einsum("ij,ij->i", mine, self.items.audience_vector.take(item, axis=0), out=out[:, 3])
        out[:, 4] = out[:, 0] / (self._user_length.take(user) * self._item_length.take(item) + LEAST_LENGTH)
        return out

    def _of_texts(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        out = np.zeros((len(user), len(TEXT_FEATURES)), np.float32)
        if self.items.text.any():
            np.einsum("ij,ij->i", self.users.text.take(user, axis=0), self.items.text.take(item, axis=0), out=out[:, 0])
            out[:, 1] = out[:, 0] / (np.linalg.norm(self.users.text, axis=1).take(user) + LEAST_LENGTH)
        return out

    def _of_kind(self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int32]) -> Matrix:
        if not self.items.kind.any():
            return np.zeros((len(user), len(KIND_FEATURES)), np.float32)
        found, codes = self._by_kind
        return found(user, codes[item])

    @cached_property
    def _by_kind(self) -> tuple[Affinities, npt.NDArray[np.int64]]:
        keys, lists = np.unique(self.items.kind[self.items.kind != 0]), self.users.topics
        rows, codes = _present(lists, keys)
        sent = lists.values[rows][:, [TOPIC_AFFINITY.index("sent_14d")]]
        return Affinities(lists, keys, sent, rows, codes), _codes(self.items.kind, keys)

    @cached_property
    def _user_length(self) -> Matrix:
        length: Matrix = np.linalg.norm(self.users.vector, axis=1)
        return length

    @cached_property
    def _item_length(self) -> Matrix:
        length: Matrix = np.linalg.norm(self.items.vector, axis=1)
        return length

    @cached_property
    def _one_over_users(self) -> Matrix:
        return (1 / np.maximum(self.items.counts[:, _COUNT["users"]], 1)).astype(np.float32)


def _codes(wanted: Keys64, keys: Keys64) -> npt.NDArray[np.int64]:
    """Return the place of each key in the ascending `keys`, len(keys) where it is none of them."""
    if not len(keys):
        return np.zeros(wanted.shape, np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, len(keys))


def order_of(names: Sequence[str]) -> None:
    """Raise ValueError unless `names` are exactly FEATURES in order, naming the first difference."""
    for place, (given, wanted) in enumerate(zip(names, FEATURES, strict=False)):
        if given != wanted:
            raise ValueError(f"feature {place} is {given!r} where {wanted!r} belongs")
    if len(names) != len(FEATURES):
        raise ValueError(f"there are {len(names)} features where {len(FEATURES)} belong")
