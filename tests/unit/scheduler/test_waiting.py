"""Waiting for the next window: age takes from a row's value, a better hour adds to it, and neither more than is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.items import ItemTable, MemoryItemStore
from lake.profiles import Profiles, blank
from scheduler.sources import HeldRows, UserChunk
from scheduler.waiting import HourConfig, hours_of, likelier, value_later
from scheduler.windows import LocalTimes
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished, urgent

PLAIN = HourConfig(power=1.0, most=1000.0)


def profile_of(scores: npt.NDArray[np.float32], zone: bytes = b"UTC") -> Profiles:
    """Return the profile of one user with these scores of the hours of the week."""
    row = blank(1)
    row["zone"], row["hours"] = zone, hours_of(scores[None, :])
    return row


def ratio(row: Profiles, now: str, opens: str | None, config: HourConfig = PLAIN) -> float:
    """Return how many times as much a row counts at one moment as at another."""
    at = np.inf if opens is None else pd.Timestamp(opens, tz="UTC").timestamp()
    times = LocalTimes.of(row["zone"], row["utc_offset_minutes"])
    return float(likelier(row, times, pd.Timestamp(now, tz="UTC").timestamp(), np.array([at]), config)[0])


@pytest.fixture
def evenings() -> npt.NDArray[np.float32]:
    """Looks at 20 h on working days four times as often as at any other hour, and at 9 h at weekends twice as often."""
    week = np.ones((7, 24), np.float32)
    week[:5, 20], week[5:, 9] = 4, 2
    return np.asarray(week / week.sum(), np.float32).ravel()


def test_the_hour_of_the_window_is_weighed_against_this_one(evenings: npt.NDArray[np.float32]) -> None:
    row = profile_of(evenings)
    assert ratio(row, "2025-03-05 03:10", "2025-03-05 20:45") == pytest.approx(4, rel=0.02)
    assert ratio(row, "2025-03-05 20:10", "2025-03-06 03:00") == pytest.approx(1 / 4, rel=0.02)
    assert ratio(row, "2025-03-05 03:10", "2025-03-08 09:30") == pytest.approx(2, rel=0.02)
    assert ratio(row, "2025-03-08 20:10", "2025-03-10 20:00") == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(("zone", "now", "opens"), [(b"Asia/Kathmandu", "14:20", "21:40"), (b"Pacific/Kiritimati", "06:00", "13:00")])
def test_hours_are_the_users_own(evenings: npt.NDArray[np.float32], zone: bytes, now: str, opens: str) -> None:
    """14:20 UTC is 20:05 in Kathmandu; 06:00 UTC is 20:00 in Kiritimati."""
    assert ratio(profile_of(evenings, zone), f"2025-03-05 {now}", f"2025-03-05 {opens}") == pytest.approx(1 / 4, rel=0.02)


def test_a_change_of_the_clocks_between_the_two_moves_the_hour(evenings: npt.NDArray[np.float32]) -> None:
    """In Berlin 19:00 UTC is 20 h in winter and 21 h in summer."""
    row = profile_of(evenings, b"Europe/Berlin")
    assert ratio(row, "2025-03-28 19:00", "2025-03-31 19:00") == pytest.approx(1 / 4, rel=0.02)
    assert ratio(row, "2025-03-28 19:00", "2025-03-31 18:00") == pytest.approx(1, rel=0.02)


def test_what_is_not_known_is_said_to_be_unknown(evenings: npt.NDArray[np.float32]) -> None:
    chosen = profile_of(evenings)
    chosen["digest_days"] = 127
    for row, opens in ((blank(1), "2025-03-05 20:00"), (profile_of(evenings), None), (chosen, "2025-03-05 20:00")):
        assert np.isnan(ratio(row, "2025-03-05 03:00", opens))


@given(arrays(np.float32, (3, 168), elements=st.floats(0, 1, width=32)), st.floats(0, 1), st.floats(1, 5))
def test_the_hour_counts_within_its_bounds_and_the_other_way_round_the_other_way(
    scores: npt.NDArray[np.float32], power: float, most: float
) -> None:
    rows = blank(3)
    rows["hours"] = hours_of(scores)
    times, config = LocalTimes.of(rows["zone"], rows["utc_offset_minutes"]), HourConfig(power, most)
    then = np.array([MONDAY_NOON + 5 * 3600, MONDAY_NOON + 86400, MONDAY_NOON + 6 * 86400])
    there, back = (
        likelier(rows, times, now, opens, config) for now, opens in ((np.full(3, MONDAY_NOON), then), (then, np.full(3, MONDAY_NOON)))
    )
    known = ~np.isnan(there)
    assert (known == ~np.isnan(back)).all()
    np.testing.assert_allclose(there[known] * back[known], 1, rtol=1e-4)
    assert (there[known] <= np.float32(most) * 1.0001).all()
    if power == 0:
        assert (there[known] == 1).all()


def test_where_hours_are_unknown_what_is_worth_a_unit_and_keeps_half_is_worth_waiting_for() -> None:
    value, threshold = np.array([0.8, 0.8, 0.3], np.float32), np.full(3, 0.5, np.float32)
    later = value_later(value, threshold, np.array([0.6, 0.4, 0.9]), np.full(3, np.nan, np.float32), least_kept=0.5)
    assert (later >= np.maximum(value, threshold)).tolist() == [True, False, False]


@pytest.fixture
def night_and_noon() -> World:
    """Everybody looks at noon, when their window opens, sixteen times as often as at any other hour; there are no other items."""
    world = furnished(World.in_memory())
    week = np.ones((7, 24), np.float32)
    week[:, 12] = 16
    profiles = world.profiles.get(["ann", "bob"]).copy()
    profiles["hours"] = hours_of(np.tile(week.ravel(), (2, 1)))
    world.profiles.put(["ann", "bob"], profiles)
    world.thresholds.write({"in_app": 0.5})
    return world


@pytest.mark.parametrize(
    ("hours_before", "half_life_h", "value", "told"),
    [
        (8, 24, 0.8, ("hold", "better_next_window")),
        (8, 4, 0.8, ("send", "above_threshold")),
        (8, 24, 0.4, ("hold", "better_next_window")),
        (8, 4, 0.4, ("below_threshold", "below_threshold")),
        (0.5, 24, 0.4, ("hold", "better_next_window")),
        (23.5, 2400, 0.8, ("send", "above_threshold")),
    ],
)
def test_the_urgent_lane_sends_now_what_is_worth_no_more_at_the_next_window(
    night_and_noon: World, hours_before: float, half_life_h: float, value: float, told: tuple[str, str]
) -> None:
    """A window at an hour sixteen times as likely is worth 1.74 times as much, less what age takes; at noon itself waiting gains nothing.

    What is worth too little now and enough then waits, too.
    """
    world, now = night_and_noon, MONDAY_NOON - hours_before * 3600
    world.items.put([{"item_id": "item", "created_at": now - 60, "half_life_s": half_life_h * 3600}])
    world.ranker.values = {"item": value}
    [result] = world.urgent().decide([urgent("item", ["ann", "bob"])], now)
    assert [(result.disposition[0], result.reason[0]), (result.disposition[1], result.reason[1])] == [told, told]


def test_what_waits_is_offered_again_until_there_is_room_for_it(night_and_noon: World) -> None:
    """Held on Monday, in want of budget in that week's windows, sent in the next week's second one."""
    world = night_and_noon
    profiles = world.profiles.get(["ann"]).copy()
    profiles["windows"][:, 1] = 48 + 96
    world.profiles.put(["ann"], profiles)
    world.items.put([{"item_id": "waits", "created_at": MONDAY_NOON - 30_000, "half_life_s": 90 * 86400}])
    world.ranker.values = {"waits": 0.7, "x": 0.9, "y": 0.95}
    [result] = world.urgent().decide([urgent("waits", ["ann"])], MONDAY_NOON - 28_800)
    assert result.disposition == ["hold"]
    for day in (0, 1, 7):
        assert world.tick(MONDAY_NOON + day * 86400)["ann"]["waits"] == ("over_budget", "budget_spent")
        assert [row.item_id for row in world.held.read(["ann"])[0]] == ["waits"]
    assert world.tick(MONDAY_NOON + 8 * 86400)["ann"]["waits"] == ("send", "above_threshold")
    assert world.held.read(["ann"]) == [[]]


def test_what_ends_while_it_waits_is_let_go(night_and_noon: World) -> None:
    """A live room that is over, and one the item table has let go of, are offered to nobody."""
    world = night_and_noon
    world.items.put([{"item_id": "room", "created_at": MONDAY_NOON - 30_000, "half_life_s": 90 * 86400, "expires_at": MONDAY_NOON + 60}])
    world.ranker.values = {"room": 0.9}
    assert world.urgent().decide([urgent("room", ["ann"])], MONDAY_NOON - 28_800)[0].disposition == ["hold"]
    table = world.pipeline().table
    table.sync(MONDAY_NOON + 60)
    assert len(HeldRows(world.held).propose(UserChunk(["ann"]), table, MONDAY_NOON + 60).item) == 0
    assert len(HeldRows(world.held).propose(UserChunk(["ann"]), ItemTable(MemoryItemStore()), MONDAY_NOON).item) == 0
    [late] = world.urgent().decide([urgent("room", ["bob"], decision_id="late")], MONDAY_NOON + 61)
    assert late.disposition == ["expired"]
