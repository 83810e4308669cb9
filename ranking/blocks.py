"""What features are computed from: columns of users and of items, the same from the log, from the store and in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64

Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DAYS = tuple(f"day_{day}" for day in range(14))
HOURS = tuple(f"hour_{hour}" for hour in range(24))
USER_STATS = (
    "engaged_3d",
    "engaged_14d",
    "engaged_90d",
    "own_90d",
    "events_90d",
    "strong_90d",
    "active_days_28d",
    "recency_h",
    "tenure_d",
    "item_age_log",
    "offset_minutes",
    "sent_1d",
    "sent_7d",
    "sent_28d",
    "answered_28d",
    "latitude",
    "longitude",
    *DAYS,
    *HOURS,
)
"""Offline, per user. NAME_3d: a sum that halves every 3 days, but `sent_7d`: notifications of the last 7 days, `answered_28d`: those
answered by engaging with their item in the last 28, each alike. `latitude`, `longitude`: degrees, NaN unknown.
`engaged`: first engagements with others' items; `own`:
with the user's own; `item_age_log`: mean log(1 + hours) between an item's birth and the user's engagement; `day_0`: items
first engaged with on the last day before the state's moment, `day_1`: on the day before that; `hour_0`: engagements
between 00:00 and 01:00 local, halving every 90 days."""

AUTHOR_STATS = ("items_90d", "engaged_14d", "engaged_90d", "recency_h")
TOPIC_STATS = ("items_180d", "engaged_30d", "engaged_180d")
"""Offline, per author and per topic: their items, and others' first engagements with them."""

AUTHOR_AFFINITY = ("engaged_30d", "engaged_180d", "back_180d", "sent_14d")
TOPIC_AFFINITY = ("engaged_30d", "engaged_180d", "own_180d", "sent_14d")
"""Offline, per user and author, user and topic. `back`: the author's engagements with the user's items. `sent`: notifications
of the author's items, or of the topic's. A kind of item counts as a topic of which only the notifications are known."""

ITEM_COUNTS = ("events", "users", "users_1h", "users_1d", "users_7d", "last_at")
"""Real time, per item: engagements, and people who engaged (all, and decayed to `last_at`, the latest one's time)."""
DECAYED = {"users_1h": 3600.0, "users_1d": 86400.0, "users_7d": 7 * 86400.0}
"""Half-lives in seconds of the decayed counts of items."""

HOURS_OF_WEEK = 168
DIMENSIONS = 32
"""Of the co-engagement embedding."""
TEXT_DIMENSIONS = 16
"""Of the embedding of texts."""


@dataclass(frozen=True)
class Lists:
    """One list of (key, values) per user: user i has the entries `start[i]` to `start[i + 1]`."""

    start: Ints
    key: Keys64
    values: Matrix

    @staticmethod
    def empty(users: int, width: int) -> Lists:
        """Return empty lists for some users."""
        return Lists(np.zeros(users + 1, np.int64), np.empty(0, np.uint64), np.empty((0, width), np.float32))


Week = npt.NDArray[np.float64]
"""Offline, of everybody: the share of a week's engagements that come before each hour of the week, UTC, 0 to 1, shape
(HOURS_OF_WEEK + 1,); hours count from Thursday 00:00, as epoch seconds do."""


def even_week() -> Week:
    """Return the week of people who are awake at all hours."""
    return np.linspace(0.0, 1.0, HOURS_OF_WEEK + 1)


@dataclass(frozen=True)
class UserBlock:
    """Offline state of distinct users, one row per user.

    `as_of`: float64 (U,), the moment of the state in seconds. `stats` (U, USER_STATS), `vector` (U, DIMENSIONS), `text` (U,
    TEXT_DIMENSIONS): what the items that the user engaged with are about, affinities.
    """

    as_of: npt.NDArray[np.float64]
    stats: Matrix
    vector: Matrix
    text: Matrix
    authors: Lists
    topics: Lists

    def __len__(self) -> int:
        return len(self.stats)


@dataclass(frozen=True)
class ItemBlock:
    """State of distinct (item, moment) pairs, one row each: usually all of one moment.

    `at`, `created_at`: float64 seconds. `latitude`, `longitude`: float32 degrees, NaN unknown.
    `author`, `kind`: uint64 (I,). `topics`: uint64 (I, topics), padded with 0. `counts`:
    float64 (I, ITEM_COUNTS) strictly before `at`. `vector`: (I, DIMENSIONS), the sum over those who engaged. `text`: (I,
    TEXT_DIMENSIONS), of length 1, or 0 where nothing is known of the words.
    `author_stats`, `author_vector`, `audience_vector` (the mean over those who engage with the author): one row per item.
    `topic_keys`: distinct, ascending; `topic_stats`: one row per key.
    `week`: see Week.
    """

    at: npt.NDArray[np.float64]
    created_at: npt.NDArray[np.float64]
    latitude: Matrix
    longitude: Matrix
    author: Keys64
    kind: Keys64
    topics: Keys64
    counts: npt.NDArray[np.float64]
    vector: Matrix
    text: Matrix
    author_stats: Matrix
    author_vector: Matrix
    audience_vector: Matrix
    topic_keys: Keys64
    topic_stats: Matrix
    week: Week

    def __len__(self) -> int:
        return len(self.at)
