"""Learned budgets in a running system: assigned through Ray, begun again where the worker dies in the middle, and gone by."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from budgets.allowance import weekly_budget
from lake.history import History
from lake.meta import MAX_CHANNELS
from scheduler.learned_budgets import TABLE, week_of
from tests.integration.budget_weeks import file_past_weeks, kill, stopped_amid_assignment, weeks_filed
from tests.integration.conftest import SmallWorld
from tests.integration.systems import Running, answer_of, prepare_store, system, tidings

pytestmark = pytest.mark.timeout(300)

CHANNEL, DEFAULT, MEAN = "in_app", 3, 4.0


@pytest.fixture
def running(home: Path, small_world: SmallWorld) -> Iterator[Running]:
    """The small world's system at the end of its history, where half of the budgets are learned and half drawn."""
    prepare_store(home / "store", small_world.end_at)
    learned: dict[str, Any] = {"learned_budgets": {CHANNEL: MEAN}, "explored_budgets": 0.5}
    with system(home, "--model", str(small_world.model), "--data", str(small_world.data), **learned) as started:
        yield started


def test_budgets_are_learned_written_and_gone_by_though_their_worker_dies_in_the_middle(running: Running, small_world: SmallWorld) -> None:
    stores, users = running.stores, small_world.users
    now, folder = stores.clock.now(), Path(running.state.history)
    history = History(running.state.history)
    file_past_weeks(history, stores.user_keys, users, CHANNEL, MEAN, now)
    before = stores.profiles.get(users)["learned"]
    with ThreadPoolExecutor(1) as beside:
        nightly = beside.submit(tidings, "nightly", "--json")
        with stopped_amid_assignment(folder, now, stores.client) as worker:
            filed = weeks_filed(folder, now)
            assert np.array_equal(stores.profiles.get(users)["learned"], before)
            kill(worker)
        done = nightly.result()
    assert done.returncode == 0, done.stderr
    assert weeks_filed(folder, now) == filed
    week = history.read(TABLE, now - 60, now + 60).query("channel == @CHANNEL")
    week = week[week["week"] == week_of(now)].set_index("user_key").loc[stores.user_keys.of(users)]
    assert len(week) == len(users)
    learned = week["learned"].to_numpy(bool)
    assert (learned == ~week["drawn"].to_numpy(bool)).all()
    assert 0.4 < learned.mean() < 0.6
    assert MEAN * 0.85 * learned.sum() < week["weekly"].to_numpy()[learned].sum() <= round(MEAN * learned.sum())
    profiles = stores.profiles.get(users)
    budget = weekly_budget(profiles["budget"], np.full(MAX_CHANNELS, DEFAULT, np.uint8), profiles["dial"], profiles["learned"])[:, 0]
    assert budget.tolist() == week["weekly"].tolist()
    answer_of("nightly")
    assert np.array_equal(stores.profiles.get(users), profiles)
    stores.clock.hold(now + 86400)
    report = running.tick()
    assert report is not None
    assert report["sends"] > 0
    rows = running.decisions().query("channel == @CHANNEL and lane == 'scheduled' and disposition == 'send'")
    later = rows[rows["at"] > pd.Timestamp(now, unit="s", tz="UTC")]
    told = later.groupby("user_key").size().reindex(week.index, fill_value=0).to_numpy()
    assert told.sum() > 0
    assert (told <= budget).all()
