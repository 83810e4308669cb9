"""Learned thresholds: last week's N-th highest value, one row once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lake.history import History
from scheduler.thresholds import believed, last_week, learn

NOW = 1_700_000_000.0


def log_of(values: list[float], channel: str = "in_app") -> pd.DataFrame:
    """Return a log of one row per user and item."""
    n = len(values)
    return pd.DataFrame(
        {"user_key": [f"u{i}" for i in range(n)], "item_id": "i", "channel": channel, "value": np.array(values, np.float32), "weight": 1.0}
    )


def test_as_many_rows_reach_the_threshold_as_sends_are_wanted() -> None:
    """The third highest of five values, where three sends are wanted; NaN was never scored."""
    log = log_of([0.1, 0.5, np.nan, 0.4, 0.3, 0.2])
    learned = learn(log, {"in_app": 3.0})
    assert (log["value"] >= np.float32(learned["in_app"])).sum() == 3


def test_a_row_offered_in_several_windows_counts_once() -> None:
    """Offering the best rows again and again must not raise the bar."""
    log = log_of([0.9, 0.5, 0.1])
    again = pd.concat([log] * 7, ignore_index=True)
    assert learn(again, {"in_app": 2.0}) == learn(log, {"in_app": 2.0})


def test_a_channel_with_room_for_everything_has_no_threshold() -> None:
    """Fewer rows than sends wanted: everything may go."""
    assert learn(log_of([0.9, 0.5]), {"in_app": 5.0}) == {}


def test_the_week_is_read_from_the_files_of_some_shards(tmp_path: Path) -> None:
    """Rows older than a week, urgent rows and other shards are left out; the share of shards is told."""
    history = History(str(tmp_path))
    for shard, lane, age_days in ((0, "scheduled", 1.0), (0, "scheduled", 7.5), (0, "urgent", 1.0), (15, "scheduled", 1.0)):
        at = pd.to_datetime([NOW - age_days * 86400], unit="s", utc=True)
        frame = log_of([0.5]).assign(at=at, lane=lane)
        history.write("decisions", frame, at="at", shard=shard, name=f"{shard}-{lane}-{age_days}")
    rows, share = last_week(history, NOW, 16)
    assert len(rows) == 1
    assert share == 0.5
    assert len(last_week(History(str(tmp_path / "none")), NOW, 16)[0]) == 0


def test_days_without_offers_do_not_count_so_that_the_week_after_a_gap_spends_no_more_a_day() -> None:
    days = [pd.to_datetime([NOW - (day + 0.5) * 86400], unit="s", utc=True) for day in range(7)]
    week = pd.concat([log_of([0.1 * value for value in range(1, 9)]).assign(at=day[0], item_id=f"i{n}") for n, day in enumerate(days)])
    gap = week[~week["item_id"].isin(["i1", "i2", "i3"])]
    assert believed(week, NOW) == 1.0
    assert believed(gap, NOW) == pytest.approx(4 / 7)
    assert learn(gap, {"in_app": 14 * believed(gap, NOW)}) == learn(week, {"in_app": 14.0})
    few = pd.concat([gap, week[week["item_id"] == "i1"].head(2)])
    assert believed(few, NOW) == pytest.approx(4 / 7), "a day that is almost empty is none"
