"""What waits for a later window because all of a user's next windows are planned together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lake.profiles import NO_WINDOW, blank
from scheduler.decide import DecideConfig, Rows
from scheduler.planning import Ahead, Lasting, PlanConfig, planned_later, upcoming

NOW = 1_736_121_600.0  # Monday 2025-01-06 00:00 UTC
DAY_S = 86_400.0
ONE_EACH = DecideConfig(top_n=1)
PLAN = PlanConfig(windows=1)


def rows(value: list[float], threshold: float = 0.1, **more: Any) -> Rows:
    """One user's rows of distinct items on one channel."""
    n = len(value)
    columns: dict[str, Any] = {
        "user": np.zeros(n, np.int32),
        "item": np.arange(n, dtype=np.int32),
        "entity": np.arange(n, dtype=np.uint64),
        "channel": np.zeros(n, np.uint8),
        "value": np.array(value, np.float32),
        "threshold": np.full(n, threshold, np.float32),
        "value_later": np.full(n, -np.inf, np.float32),
        "critical": np.zeros(n, bool),
    }
    return Rows(**{**columns, **more})


def later(contest: Rows, expires_in_s: list[float], units: int = 5, half_life_s: float = 10 * DAY_S) -> npt.NDArray[np.bool_]:
    """Return which rows wait for tomorrow's window, the only other one."""
    n = len(contest.user)
    lasting = Lasting(np.full(n, half_life_s, np.float32), NOW + np.array(expires_in_s), np.zeros(n, bool))
    ahead = Ahead(np.array([[0.0, DAY_S]]), np.array([[0, 1]]))
    return planned_later(contest, lasting, ahead, np.array([[units]], np.int16), NOW, ONE_EACH, PLAN) > -np.inf


def test_the_better_item_waits_for_one_that_expires_where_each_window_has_one_place() -> None:
    assert later(rows([0.9, 0.8]), [np.inf, 3600.0]).tolist() == [True, False]


def test_nothing_waits_where_one_unit_is_left_and_value_decays() -> None:
    assert later(rows([0.9, 0.8]), [np.inf, np.inf], units=1).tolist() == [False, False]


def test_the_second_best_waits_where_both_last() -> None:
    assert later(rows([0.9, 0.8]), [np.inf, np.inf]).tolist() == [False, True]


def test_what_would_fall_below_its_threshold_or_lose_too_much_does_not_wait() -> None:
    assert not later(rows([0.9, 0.88], threshold=0.85), [np.inf, np.inf]).any()
    assert not later(rows([0.9, 0.8]), [np.inf, np.inf], half_life_s=0.5 * DAY_S).any()


def test_of_an_entity_one_row_is_planned() -> None:
    same = rows([0.9, 0.8], entity=np.zeros(2, np.uint64))
    assert not later(same, [np.inf, np.inf]).any()


def test_no_rows_are_no_plan() -> None:
    assert later(rows([]), []).tolist() == []


def test_the_next_windows_are_in_order_on_their_local_days_and_none_is_after_a_week() -> None:
    profiles = blank(3)
    profiles["zone"] = np.array([b"UTC", b"Asia/Tokyo", b"UTC"], "S32")
    profiles["windows"] = NO_WINDOW
    profiles["windows"][:2, :2] = [9 * 4, 33 * 4]
    ahead = upcoming(profiles, NOW, 3)
    assert ahead.wait_s.tolist() == [
        [0.0, 9 * 3600.0, 33 * 3600.0, np.inf],
        [0.0, 24 * 3600.0, np.inf, np.inf],
        [0.0, np.inf, np.inf, np.inf],
    ]
    assert (np.diff(ahead.day[0, :3]) == [0, 1]).all()
