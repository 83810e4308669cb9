"""Weeks of assigned budgets in a running system: past ones to learn from, and the worker that assigns this week's, ended in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from redis import Redis

from lake.history import History
from lake.user_keys import UserKeys, keyed
from scheduler.learned_budgets import TABLE, WEEK_S, BudgetJobConfig, most_of, week_of
from scheduler.reader_weeks import FEATURES
from tests.integration.processes import living, title
from tests.integration.waiting import until

WORKER = "ray::assign_budgets"
PAUSE_MS = 30_000


def file_past_weeks(history: History, user_keys: UserKeys, users: Sequence[str], channel: str, mean: float, now: float) -> None:
    """File as many weeks of budgets drawn for everybody as it takes to learn from them."""
    rng, weeks = np.random.default_rng(0), -(-BudgetJobConfig.least // len(users))
    assert weeks < BudgetJobConfig.weeks, "too few users to learn from the weeks that count"
    for ago in range(1, weeks + 1):
        at = now - ago * WEEK_S
        rows = pd.DataFrame(rng.random((len(users), len(FEATURES))), columns=list(FEATURES)).assign(
            user_id=list(users), channel=channel, week=week_of(at), drawn=True, learned=False
        )
        rows["weekly"] = rng.integers(0, most_of(mean) + 1, len(users))
        rows["at"] = pd.Timestamp(at, unit="s", tz="UTC").as_unit("us")
        history.write(TABLE, keyed(rows, user_keys), at="at", shard=0, name=f"week-{week_of(at)}-{channel}")


def kill_amid_assignment(history: Path, now: float, client: Redis) -> int:
    """End the worker between the filing of the week of `now` and its writing to profiles; returns its process id.

    The store takes no writes from when the file is begun until the worker is gone.
    """
    week = f"week-{week_of(now)}-"
    until(lambda: any(path.name.startswith(f".{week}") or path.name.startswith(week) for path in (history / TABLE).rglob("*week-*")), 120)
    client.client_pause(PAUSE_MS, all=False)
    until(lambda: any(path.name.startswith(week) for path in (history / TABLE).rglob("week-*.parquet")), 20)
    (worker,) = [pid for pid in living() if title(pid) == WORKER]
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker not in living(), 10)
    return worker
