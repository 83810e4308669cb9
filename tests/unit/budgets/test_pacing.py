"""How a week's budget is spread: units kept for the urgent lane, a slow start, a cap a day, a gap between two sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.ledger import CRITICAL, LedgerColumns
from budgets.pacing import DAY_S, NO_LIMIT, PacingConfig, paced_budget, places_left, told_for_s

NOW = 1_700_000_000.0


def ledger(*grants: tuple[int, float], critical: bool = False) -> LedgerColumns:
    """Return grants as (user, days ago), by user and then by time."""
    n = len(grants)
    nothing = np.zeros(n, np.uint64)
    return LedgerColumns(
        user=np.array([user for user, _ in grants], np.int32),
        at=np.array([NOW - ago * DAY_S for _, ago in grants]),
        grant_id=nothing,
        entity=nothing,
        version=np.zeros(n, np.uint32),
        channel=np.zeros(n, np.uint8),
        flags=np.full(n, CRITICAL * critical, np.uint8),
        decision=np.zeros(n, np.uint32),
    )


def budget(weekly: int, told_days: float = 100.0, *, is_urgent: bool = False, **config: Any) -> int:
    table = np.array([[weekly]], np.uint8)
    return int(paced_budget(table, np.array([told_days * DAY_S]), PacingConfig(**config), is_urgent=is_urgent)[0, 0])


def test_users_are_told_things_since_the_first_grant_after_a_silence_of_two_weeks() -> None:
    days = told_for_s(ledger((0, 20), (0, 3), (0, 1), (1, 27), (1, 14.5), (1, 2), (2, 15)), 4, NOW) / DAY_S
    assert days == pytest.approx([3, 27, 0, 0])
    assert told_for_s(ledger((0, 5), critical=True), 1, NOW).tolist() == [0]
    assert told_for_s(ledger(), 0, NOW).tolist() == []


def test_the_last_units_are_left_to_the_urgent_lane() -> None:
    assert [budget(10, urgent_share=0.2), budget(10, urgent_share=0.2, is_urgent=True)] == [8, 10]
    assert [budget(1, urgent_share=0.9), budget(0, urgent_share=0.9)] == [1, 0]


def test_new_and_returning_users_come_to_their_budget_in_days() -> None:
    assert [budget(10, day, ramp_days=10, ramp_from=0.4) for day in (0, 5, 10, 30)] == [4, 7, 10, 10]
    assert budget(10, 0) == 10


def test_a_day_has_a_cap_for_both_lanes_and_a_gap_for_the_scheduled_one() -> None:
    today, since = np.array([0, 3, 5]), np.array([np.inf, 7200.0, 60.0])
    config = PacingConfig(day_cap=4, least_gap_s=3600)
    assert places_left(today, since, config, is_urgent=False).tolist() == [4, 1, 0]
    assert places_left(today, np.array([np.inf, 60.0, 60.0]), config, is_urgent=False).tolist() == [4, 0, 0]
    assert places_left(today, np.array([np.inf, 60.0, 60.0]), config, is_urgent=True).tolist() == [4, 1, 0]
    assert places_left(today, since, PacingConfig(), is_urgent=False).tolist() == [NO_LIMIT] * 3


@given(st.integers(0, 254), st.floats(0, 40), st.floats(0, 0.99), st.floats(0, 14), st.floats(0.01, 1))
def test_a_lane_never_has_more_than_the_budget_nor_less_than_one_of_it(
    weekly: int, told: float, share: float, ramp: float, ramp_from: float
) -> None:
    config: dict[str, Any] = {"urgent_share": share, "ramp_days": ramp, "ramp_from": ramp_from}
    scheduled, urgent = budget(weekly, told, **config), budget(weekly, told, is_urgent=True, **config)
    assert min(weekly, 1) <= scheduled <= urgent <= weekly


@pytest.mark.parametrize("wrong", [{"urgent_share": 1.0}, {"ramp_days": 15}, {"ramp_from": 0}, {"day_cap": -1}, {"least_gap_s": -1}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pacing takes"):
        PacingConfig(**wrong)
