"""Weeks of assigned budgets in a running system: past ones to learn from, and the worker that assigns this week's, ended in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

WORKER = ("ray::", "assign_budgets")
"""What the worker calls itself: how that begins, and what is in it."""
PAUSE_MS = 30_000
ANSWERED_S, RUNS_S = 0.05, 0.2
"""How long the store takes what was written to it, and the worker runs while the store takes nothing."""


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


def weeks_filed(history: Path, now: float) -> dict[Path, int]:
    """Return the files of the week of `now`, and when each was written, nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in (history / TABLE).rglob(f"week-{week_of(now)}-*.parquet")}


@contextmanager
def stopped_amid_assignment(history: Path, now: float, client: Redis) -> Iterator[int]:
    """Wait for the worker that assigns the week of `now` and give its process id while the week is filed and no profile can change.

    The store takes no writes while the worker runs, and the worker does not run while the store takes those that it has made: so it
    cannot get from the file to the profiles, however fast it is.
    """
    (worker,) = until(_workers, 200, "a worker assigns budgets")
    try:
        client.client_pause(PAUSE_MS, all=False)
        give_up_at = time.monotonic() + 200
        while not weeks_filed(history, now):
            assert time.monotonic() < give_up_at, f"no week has been filed in {history / TABLE}"
            os.kill(worker, signal.SIGSTOP)
            client.client_unpause()
            time.sleep(ANSWERED_S)
            client.client_pause(PAUSE_MS, all=False)
            os.kill(worker, signal.SIGCONT)
            time.sleep(RUNS_S)
        yield worker
    finally:
        client.client_unpause()


def kill(worker: int) -> None:
    """End a worker without warning and see it gone."""
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker not in living(), 60, "the worker is gone")


def _workers() -> list[int]:
    return [pid for pid in living() if (name := title(pid)).startswith(WORKER[0]) and WORKER[1] in name]
