"""Replay of logged history through the real pipeline: the clock is simulated, the ledger, the commit and the log are real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lake.meta import Meta
from simulation.policies import PolicyName

REPLAY_META = Meta(shards=1)
"""One shard: a replay decides in one process, and one shard makes the fewest, largest batches."""

Told = Callable[[PolicyName, float], None]
"""(policy, time): how far the replay is."""


@dataclass(frozen=True)
class ReplayConfig:
    """What is replayed. `since`, `until`: seconds. `budget`: sends per user and rolling 7 days, on the one `channel`."""

    since: float
    until: float
    policies: Sequence[PolicyName]
    budget: int = 3
    channel: str = "in_app"
    horizon_days: int = 14
    seed: int = 0


@dataclass(frozen=True)
class Replayed:
    """The decisions of all policies, with a column `policy`, and the report by policy."""

    decisions: pd.DataFrame
    report: dict[str, Any]
