"""Small random histories as datasets, for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lake.dataset import Dataset

START = pd.Timestamp("2024-01-01T00:00:00Z")
DAYS = 60


def world(seed: int = 0, *, users: int = 25, items: int = 120, events: int = 1500, days: int = DAYS, topics: bool = True) -> Dataset:
    """Return a history in which people return to the authors and topics they like; deterministic by seed."""
    random = np.random.default_rng(seed)
    names, zones = [f"u{i}" for i in range(users)], ["America/Sao_Paulo", "Asia/Tokyo", None]
    item_table = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "created_at": _times(np.sort(random.uniform(0, days * 86400, items))),
            "author_id": [names[i] for i in random.integers(0, max(users // 4, 1), items)],
            "topics": [[f"t{t}" for t in random.choice(6, random.integers(0, 3), replace=False)] if topics else [] for _ in range(items)],
        }
    )
    said = [" ".join([*(f"about{t}" for t in topics), f"word{i % 7}", f"name{i % 3}"]) for i, topics in enumerate(item_table["topics"])]
    item_table["title"], item_table["kind"] = said, [("post", "room")[i % 2] for i in range(items)]
    user, item = random.integers(0, users, events), random.integers(0, items, events)
    liked = (user + item) % 3 == 0
    user, item = user[liked], item[liked]
    at = (item_table["created_at"].iloc[item].reset_index(drop=True) - START).dt.total_seconds() + random.exponential(2 * 86400, len(item))
    event_table = pd.DataFrame(
        {
            "user_id": [names[i] for i in user],
            "item_id": [f"i{i}" for i in item],
            "kind": random.choice(["view", "like", "comment", "unsubscribe"], len(item), p=[0.6, 0.2, 0.18, 0.02]),
            "at": _times(at.to_numpy()),
        }
    )
    user_table = pd.DataFrame({"user_id": names, "timezone": pd.Series([zones[i % 3] for i in range(users)], dtype="str")})
    for table in (user_table, item_table):  # of some the place is known
        known = np.arange(len(table)) % 4 != 1
        table["latitude"] = np.where(known, random.uniform(-60, 70, len(table)), np.nan)
        table["longitude"] = np.where(known, random.uniform(-180, 180, len(table)), np.nan)
    sends = pd.DataFrame({"user_id": names, "item_id": "i0", "channel": "email", "at": _times(random.uniform(0, days * 86400, users))})
    told = event_table.sample(len(event_table) // 40, random_state=seed)[["user_id", "item_id", "at"]]
    sends = pd.concat([sends, told.assign(channel="email", at=told["at"] - pd.Timedelta(hours=5))], ignore_index=True)
    return Dataset.of({"users": user_table, "items": item_table, "events": event_table, "sends": sends})


def _times(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pd.Series[pd.Timestamp]:
    return pd.Series(START + pd.to_timedelta(np.round(seconds), unit="s")).dt.as_unit("us")
