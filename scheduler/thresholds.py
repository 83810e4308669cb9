"""What a unit of each channel's budget is worth this week: learned from last week's decision log, read by the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from budgets.thresholds import threshold
from lake.history import History

PERIOD_S = 7 * 86400.0
MOST_SHARDS = 8
"""The log of this many shards stands for all: the N-th highest value needs a sample, not everybody."""


class Thresholds(Protocol):
    """Where the learned thresholds live, by channel name. One round trip per call."""

    def read(self) -> dict[str, float]:
        """Return the thresholds; a channel that is absent has none."""
        ...

    def write(self, learned: Mapping[str, float]) -> None:
        """Replace the thresholds."""
        ...


@dataclass
class MemoryThresholds:
    """Thresholds in a dictionary, for tests and replay."""

    learned: dict[str, float] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """See Thresholds."""
        return dict(self.learned)

    def write(self, learned: Mapping[str, float]) -> None:
        """See Thresholds."""
        self.learned = dict(learned)


def learn(log: pd.DataFrame, sends_wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the threshold of each channel: last week's N-th highest value, N the sends that its budgets allow.

    `log`: rows of the scheduled lane with user_key, item_id, channel, value, weight. A row that was offered in several
    windows counts once, with its best value: it would be sent once. A channel with fewer rows than sends wanted has no
    threshold.
    """
    offers = log.dropna(subset=["value"]).groupby(["channel", "user_key", "item_id"], sort=False)
    best = offers.agg(value=("value", "max"), weight=("weight", "max")).reset_index()
    found = {
        str(name): threshold(rows["value"].to_numpy(), rows["weight"].to_numpy(), sends_wanted.get(str(name), 0.0))
        for name, rows in best.groupby("channel")
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def last_week(history: History, now: float, shards: int) -> tuple[pd.DataFrame, float]:
    """Return the scheduled rows of the 7 days before `now` of some shards, and the share of all shards that those are."""
    read = min(shards, MOST_SHARDS)
    where = (pc.field("lane") == "scheduled") & (pc.field("shard") < read)
    names = ["at", "user_key", "item_id", "channel", "value", "weight"]
    rows = history.read("decisions", now - PERIOD_S, now, columns=names, where=where)
    since = pd.Timestamp(now - PERIOD_S, unit="s", tz="UTC")
    return (rows[rows["at"] >= since] if len(rows) else rows), read / shards
