"""What late windows still send: all of it at first, then ever less, the least valuable first, and past a bound nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.clock import HeldClock
from lake.decisions import BELOW_THRESHOLD, SEND
from lake.errors import InputError
from scheduler.decide import Rows
from scheduler.late import LateConfig, shed_share, too_late
from tests.unit.scheduler.test_lanes import NOON_SLOT, Reports, crowd, fence_of, lane_of
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World

__all__ = ["crowd"]

CONFIG = LateConfig(grace_s=900.0, bound_s=4500.0)


def rows_of(value: list[float], user: list[int] | None = None, critical: bool = False) -> Rows:
    n = len(value)
    zeros, values = np.zeros(n, np.float32), np.array(value, np.float32)
    users = np.arange(n, dtype=np.int32) if user is None else np.array(user, np.int32)
    return Rows(users, users, users.astype(np.uint64), users.astype(np.uint8), values, zeros, zeros, np.full(n, critical))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0, 10_000))
def test_what_is_shed_is_worth_no_more_than_what_is_kept_and_its_share_grows_with_the_delay(value: list[float], late_s: float) -> None:
    rows, sends = rows_of(value), np.full(len(value), SEND, np.uint8)
    shed = too_late(rows, sends, np.full(len(value), late_s), CONFIG)
    assert rows.value[shed].max(initial=-1) <= rows.value[~shed].min(initial=2)
    assert abs(shed.mean() - shed_share(np.array([late_s]), CONFIG)[0]) <= 0.5 / len(value) + 1e-9
    later = too_late(rows, sends, np.full(len(value), late_s + 100), CONFIG)
    assert (later | ~shed).all()


def test_a_window_in_time_sheds_nothing_and_one_past_the_bound_everything() -> None:
    rows, sends = rows_of([0.1, 0.9, 0.5]), np.full(3, SEND, np.uint8)
    assert too_late(rows, sends, np.array([0.0, 900.0, 4500.0]), CONFIG).tolist() == [False, False, True]


def test_what_is_critical_or_was_not_to_be_sent_is_not_shed() -> None:
    late_s = np.full(3, 1e6)
    assert not too_late(rows_of([0.1, 0.9, 0.5], critical=True), np.full(3, SEND, np.uint8), late_s, CONFIG).any()
    assert not too_late(rows_of([0.1, 0.9, 0.5]), np.full(3, BELOW_THRESHOLD, np.uint8), late_s, CONFIG).any()


def test_a_bound_within_the_grace_is_refused() -> None:
    with pytest.raises(InputError, match="bound_s"):
        LateConfig(grace_s=900, bound_s=900)


def test_a_shard_caught_up_with_late_sends_less_and_moves_everybody_on(crowd: World) -> None:
    config = LateConfig()
    half_s = (config.grace_s + config.bound_s) / 2
    users = crowd.due.counts(NOON_SLOT)[0]
    report = lane_of(crowd, Reports()).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON + half_s))
    assert report.users == users
    assert report.sends == pytest.approx(users / 2, abs=2)
    assert crowd.due.counts(NOON_SLOT)[0] == 0


def test_what_ended_before_a_missed_window_was_caught_up_with_is_not_sent_and_the_rest_is(crowd: World) -> None:
    crowd.items.put([{"item_id": "room", "created_at": MONDAY_NOON - 60, "expires_at": MONDAY_NOON + 600}])
    crowd.ranker.values["room"] = 1.0
    lane_of(crowd, Reports()).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON + 700))
    log = crowd.logged()
    assert set(log.loc[log["item_id"] == "room", "disposition"]) <= {"expired"}
    assert (log["disposition"] == "send").any()
