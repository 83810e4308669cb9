"""Nobody is told of anything in their quiet hours: however late a window is decided, whatever the clocks did and whatever ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.preferences import in_quiet_hours
from lake.profiles import blank
from scheduler.windows import NO_SLOT, SLOT_S, LocalTimes, next_slots_of
from tests.properties.test_windows import FROM, TO, ZONES, changes
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished, urgent


def at_night(world: World, begins: int, ends: int) -> None:
    """Let these be ann's quiet hours, in minutes of the day."""
    world.profiles.write(["ann"], "quiet_from", [begins])
    world.profiles.write(["ann"], "quiet_to", [ends])


def test_a_window_that_is_decided_in_quiet_hours_tells_nothing_and_loses_nothing_that_was_held() -> None:
    world = furnished(World.in_memory())
    world.items.put([{"item_id": "waits", "created_at": MONDAY_NOON - 7300, "half_life_s": 90 * 86400}])
    world.ranker.values = {"waits": 0.9, "x": 0.8, "y": 0.7}
    assert world.urgent().decide([urgent("waits", ["ann"])], MONDAY_NOON - 7200)[0].disposition == ["hold"]
    at_night(world, 12 * 60 + 10, 13 * 60)
    told = world.tick(MONDAY_NOON + 1200)
    assert "send" not in {disposition for disposition, _ in told["ann"].values()}
    assert told["ann"]["waits"] == ("ineligible", "quiet_hours")
    assert "send" in {disposition for disposition, _ in told["bob"].values()}
    assert [row.item_id for row in world.held.read(["ann"])[0]] == ["waits"]
    assert world.tick(MONDAY_NOON + 7 * 86400)["ann"]["waits"] == ("send", "above_threshold")


def test_what_ends_before_quiet_hours_do_is_told_to_those_who_are_up_and_to_nobody_else() -> None:
    world = furnished(World.in_memory())
    at_night(world, 9 * 60, 11 * 60)
    now = MONDAY_NOON - 2.5 * 3600
    world.items.put([{"item_id": "room", "created_at": now - 60, "expires_at": now + 600}])
    [result] = world.urgent().decide([urgent("room", ["ann", "bob"])], now)
    assert list(zip(result.disposition, result.reason, strict=True)) == [("ineligible", "quiet_hours"), ("send", "above_threshold")]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_no_zone_and_around_no_change_of_the_clocks_is_a_late_window_sent_in_quiet_hours(data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(ZONES))
    around = data.draw(st.sampled_from(changes(zone) or [FROM, TO - 8 * 86_400]))
    row = blank(1)
    row["zone"], row["windows"][:, 0] = zone.encode(), data.draw(st.integers(0, 671))
    row["quiet_from"], row["quiet_to"] = (data.draw(st.integers(0, 1439)) for _ in range(2))
    slot = int(next_slots_of(row, float(around - data.draw(st.integers(0, 7 * 86_400))))[0][0])
    assert slot != NO_SLOT
    now = slot * SLOT_S + data.draw(st.sampled_from([0.0, 1.0, 600.0, 1700.0]))
    world = World.in_memory()
    world.profiles.put(["ann"], row)
    world.due.enroll(["ann"], [slot])
    world.items.put([{"item_id": "x", "created_at": now - 3600}])
    sent = any(disposition == "send" for disposition, _ in world.tick(now).get("ann", {}).values())
    minute = LocalTimes.of(row["zone"], row["utc_offset_minutes"]).minutes_at(now)
    assert sent == (not in_quiet_hours(row, minute)[0])
    assert int(world.due.slots(["ann"])[0]) > slot


@pytest.mark.parametrize(("begins", "opens"), [(3 * 60, False), (4 * 60, True)])
def test_a_window_that_the_clocks_push_into_quiet_hours_is_not_sent_that_day(begins: int, opens: bool) -> None:
    """In Berlin there is no 02:15 on 2025-03-30: its window opens at 03:00."""
    world, changed = World.in_memory(), 1_743_296_400.0
    row = blank(1)
    row["zone"], row["windows"][:, 0] = b"Europe/Berlin", 6 * 96 + 9
    row["quiet_from"], row["quiet_to"] = begins, 7 * 60
    world.profiles.put(["ann"], row)
    slots = next_slots_of(row, changed - 86_400)[0]
    assert slots.tolist() == [changed // SLOT_S]
    world.due.enroll(["ann"], slots)
    world.items.put([{"item_id": "x", "created_at": changed - 3600}])
    assert (("send", "above_threshold") in world.tick(changed)["ann"].values()) == opens
    assert np.asarray(world.due.slots(["ann"]))[0] > slots[0]
