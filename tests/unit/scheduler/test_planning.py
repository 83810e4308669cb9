"""What waits for a later window because all of a user's next windows are planned together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from budgets.ledger import CRITICAL, LedgerColumns
from lake.profiles import NO_WINDOW, blank
from scheduler.decide import DecideConfig, Rows
from scheduler.planning import Ahead, Before, Lasting, Plan, PlanConfig, plan_ahead, sent_before, upcoming

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


NOTHING = Before(np.zeros(1, np.int64), np.array([np.inf]))


def planned(contest: Rows, expires_in_s: list[float], *, units: int = 5, before: Before = NOTHING, **more: Any) -> Plan:
    """Return the plan of now and tomorrow's window, the only other one unless `wait_s` says when it is."""
    n = len(contest.user)
    half_life_s, wait_s = more.pop("half_life_s", 10 * DAY_S), more.pop("wait_s", DAY_S)
    lasting = Lasting(np.full(n, half_life_s, np.float32), NOW + np.array(expires_in_s), np.zeros(n, bool))
    likely = np.array([[1.0, more.pop("likely", 1.0)]], np.float32)
    ahead = Ahead(np.array([[0.0, wait_s]]), np.array([[0, int(wait_s // DAY_S)]]), likely)
    return plan_ahead(contest, lasting, ahead, before, np.array([[units]], np.int16), NOW, ONE_EACH, replace(PLAN, **more))


def later(contest: Rows, expires_in_s: list[float], **more: Any) -> npt.NDArray[np.bool_]:
    """Return which rows wait for the later window."""
    return planned(contest, expires_in_s, **more).later > -np.inf


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


def test_what_the_plan_needs_later_is_not_spent_now() -> None:
    """Two lasting items and two units: one waits, and one unit with it."""
    plan = planned(rows([0.9, 0.8]), [np.inf, np.inf], units=2)
    assert (plan.allowance.tolist(), plan.places.tolist()) == ([[1]], [1])


def test_the_only_unit_waits_for_an_hour_at_which_the_user_is_likelier_to_engage_and_nothing_else_takes_it() -> None:
    contest = rows([0.9, 0.4])
    plan = planned(contest, [np.inf, 3600.0], units=1, likely=1.5)
    assert (plan.later > -np.inf).tolist() == [True, False]
    assert plan.allowance.tolist() == [[0]]
    assert not later(contest, [np.inf, 3600.0], units=1, likely=1.0).any()


def test_how_likely_a_window_is_comes_from_the_profile_and_counts_as_now_where_unknown() -> None:
    profiles = blank(2)
    profiles["zone"] = b"UTC"
    profiles["windows"][:, :2] = [0, 9 * 4]
    profiles["window_share"][0, :2] = [100, 250]
    assert upcoming(profiles, NOW, 2).likely.tolist() == [[1.0, 2.5, 1.0], [1.0, 1.0, 1.0]]


def test_a_spent_day_makes_everything_wait_and_leaves_no_place_now() -> None:
    spent = Before(np.array([3]), np.array([7200.0]))
    plan = planned(rows([0.9]), [np.inf], before=spent, day_cap=3)
    assert (plan.later > -np.inf).tolist() == [True]
    assert plan.places.tolist() == [0]
    assert planned(rows([0.9]), [np.inf], before=spent, day_cap=4).places.tolist() == [1]


def test_too_soon_after_the_last_send_everything_waits_even_if_it_was_urgent() -> None:
    just_sent = Before(np.array([1]), np.array([600.0]))
    plan = planned(rows([0.9]), [np.inf], before=just_sent)
    assert (plan.later > -np.inf).tolist() == [True]
    assert plan.places.tolist() == [0]


def test_the_rest_of_a_day_is_shared_by_its_windows() -> None:
    """One send is left today, in this window or in the one six hours on; what expires takes it, the rest waits unplanned."""
    spent = Before(np.array([1]), np.array([7200.0]))
    plan = planned(rows([0.9, 0.8]), [np.inf, 3600.0], before=spent, day_cap=2, wait_s=6 * 3600.0)
    assert not (plan.later > -np.inf).any()
    assert plan.places.tolist() == [1]


def test_all_rows_of_an_entity_wait_with_the_one_that_is_planned() -> None:
    contest = rows([0.9, 0.85, 0.8], entity=np.array([0, 0, 1], np.uint64), item=np.array([0, 1, 2], np.int32))
    assert later(contest, [np.inf, np.inf, 3600.0]).tolist() == [True, True, False]


def test_sends_of_the_local_day_count_and_critical_ones_do_not() -> None:
    """At 00:00 UTC it is 09:00 in Tokyo: its day began nine hours ago, in UTC's it has just begun."""
    profiles = blank(2)
    profiles["zone"] = np.array([b"UTC", b"Asia/Tokyo"], "S32")
    at = np.array([NOW - 8 * 3600, NOW - 10 * 3600, NOW - 8 * 3600, NOW - 60])
    n, flags = len(at), np.array([0, 0, 0, CRITICAL], np.uint8)
    keys, small = np.zeros(n, np.uint64), np.zeros(n, np.uint32)
    ledger = LedgerColumns(np.array([0, 1, 1, 1], np.int32), at, keys, keys, small, np.zeros(n, np.uint8), flags, small)
    before = sent_before(ledger, profiles, NOW)
    assert before.today.tolist() == [0, 1]
    assert before.since_s.tolist() == [8 * 3600.0, 8 * 3600.0]


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
