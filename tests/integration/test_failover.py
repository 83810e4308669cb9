"""Schedulers are killed, frozen and find the clock set in the middle of a window: everybody is decided once, and soon."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidings.bench_failover import DRILLS, FAULTS, play
from tidings.drill_worker import Pace

QUICK = Pace(2.0)
"""A tenth of the times that serve."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "users"), [("ten_failovers", 6_400), ("killed_at_10_50_90", 6_400)])
def test_however_often_the_lead_changes_everybody_is_decided_once_and_soon(name: str, users: int) -> None:
    drill = replace(DRILLS[name], users=users, pace=QUICK)
    found = play(drill)
    assert (found["twice"], found["skipped"]) == (0, 0)
    assert (found["lost_messages"], found["surplus_messages"]) == (0, 0)
    assert {each["fault"] for each in found["failovers"]} == set(drill.faults) <= set(FAULTS)
    assert all(each["left"] > 0 for each in found["failovers"])
    assert found["slowest_s"] <= QUICK.resumed_s + 2, found["failovers"]
