"""Users who travel: their clock jumps while they wait for a window, back or ahead, also around a change of the clocks at either place."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.follows import MemoryFollowStore
from lake.profiles import NO_OFFSET, blank
from scheduler.decide import DecideConfig
from scheduler.loading import Stores, reenroll
from scheduler.pipeline import PipelineConfig
from scheduler.windows import NO_SLOT, SLOT_S, next_slots, next_slots_of, stretches_of
from tests.properties.test_windows import ZONES, changes, local, padded, twin
from tests.unit.scheduler.test_pipeline import META, World

Stay = tuple[int, str]
"""When somebody arrives, in seconds, and the zone they are in from then on."""

TOP_N = DecideConfig().top_n
AHEAD_S = 5 * 86_400


def expected(stays: list[Stay], end: int, own: list[int]) -> list[tuple[int, int]]:
    """The slots and windows of a traveller by the slow twin: those that open where they are, each of them the first time it comes."""
    found: dict[int, int] = {}
    for (arrives, zone), (leaves, _) in pairwise([*stays, (end, "")]):
        today = local(zone, arrives)
        monday = datetime.combine(today.date(), time.min) - timedelta(days=today.weekday())
        openings = {twin(zone, window, monday + timedelta(weeks=week)) for window in own for week in (-1, 0, 1, 2)}
        for slot, window in sorted(openings):
            if arrives < slot * SLOT_S < leaves:
                found.setdefault(window, slot)
    return sorted((slot, window) for window, slot in found.items())


def different(zones: list[str]) -> list[str]:
    """Zones without those that are another name of one before; that each name means its own zone is for the tests of windows to say."""
    return list({(known.begins.tobytes(), known.offset_s.tobytes()): zone for zone in zones if (known := stretches_of(zone))}.values())


def travelling(stays: list[Stay], end: int, own: list[int]) -> list[tuple[int, int]]:
    """The slots of a traveller at which something was sent, and how much, by the lane, the due index and the commit that serve."""
    world, start = World.in_memory(), stays[0][0]
    world.config = PipelineConfig(weekly={"in_app": 200})
    stores = Stores(META, world.profiles, MemoryFollowStore(META), world.items, world.due)
    world.items.put([{"item_id": f"item {number}", "created_at": float(start - 60), "author_id": "eve"} for number in range(90)])
    sent = []
    for (arrives, zone), (leaves, _) in pairwise([*stays, (end, "")]):
        row = blank(1)
        row["zone"], row["addressed"] = zone.encode(), 0b01
        row["windows"][:, : len(own)] = own
        world.profiles.put(["ann"], row)
        reenroll(["ann"], stores, float(arrives))
        while (slot := int(world.due.slots(["ann"])[0])) >= 0 and slot * SLOT_S < leaves:
            told = world.tick(float(slot * SLOT_S)).get("ann", {})
            if count := sum(disposition == "send" for disposition, _ in told.values()):
                sent.append((slot, count))
            assert int(world.due.slots(["ann"])[0]) > slot
    return sent


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[Stay], int, list[int]]:
    """One to three flights within some days around a change of the clocks of the first or second place."""
    zones = draw(st.lists(st.sampled_from(ZONES), min_size=2, max_size=4))
    middle = draw(st.sampled_from(changes(zones[0]) + changes(zones[1]) or [1_767_225_600]))
    start = (middle - draw(st.integers(0, 2 * 86_400))) // SLOT_S * SLOT_S + 1
    flights = draw(st.lists(st.integers(1, AHEAD_S // SLOT_S - 1), min_size=len(zones) - 1, max_size=len(zones) - 1, unique=True))
    arrivals = [start, *(start + flight * SLOT_S for flight in sorted(flights))]
    own = draw(st.lists(st.integers(0, 671), min_size=1, max_size=7, unique=True))
    return list(zip(arrivals, zones, strict=True)), start + AHEAD_S, own


@settings(max_examples=25)
@given(journeys())
def test_each_window_of_a_traveller_is_decided_once_and_none_that_opens_where_they_are_is_skipped(
    journey: tuple[list[Stay], int, list[int]],
) -> None:
    """Whoever flies back over a window that was decided is not told again; what a flight ahead jumps over opens a week later."""
    assert travelling(*journey) == [(slot, TOP_N) for slot, _ in expected(*journey)]


def test_every_change_of_every_zone_is_passed_by_someone_who_flew_in_before_it_and_out_after_it() -> None:
    random = np.random.default_rng(7)
    trips, rows = [], []
    for zone in different(ZONES):
        for at in changes(zone):
            home, onward = random.choice(ZONES, 2)
            before, after = (int(gap) // SLOT_S * SLOT_S + 1 for gap in random.integers(1, 3 * 3600, 2))
            trips.append([(at - 12 * 3600 + 1, str(home)), (at - before, zone), (at + after, str(onward))])
            near = (at // SLOT_S + 288 + random.choice(range(-96, 96), 3, replace=False)) % 672
            rows.append(near.tolist())
    assert len(trips) > 500
    windows, last = padded(rows), np.array([stays[2][0] for stays in trips])
    decided: list[dict[int, int]] = [{} for _ in trips]
    for leg in range(3):
        now = np.array([stays[leg][0] for stays in trips], np.float64)
        leaves = np.array([stays[leg + 1][0] for stays in trips]) if leg < 2 else last + 12 * 3600
        names = np.array([stays[leg][1] for stays in trips], object)
        there = np.arange(len(trips))
        while len(there):
            slot, window = next_slots(now[there], names[there], np.full(len(there), NO_OFFSET), windows[there])
            opens = slot * SLOT_S < leaves[there]
            there, slot, window = there[opens], slot[opens], window[opens]
            for user, at_slot, number in zip(there.tolist(), slot.tolist(), window.tolist(), strict=True):
                decided[user].setdefault(number, at_slot)
            assert (slot * SLOT_S > now[there]).all()
            now[there] = slot * SLOT_S
    for stays, own, slots in zip(trips, rows, decided, strict=True):
        assert sorted((slot, window) for window, slot in slots.items()) == expected(stays, stays[2][0] + 12 * 3600, own)


@settings(max_examples=40)
@given(st.integers(-720, 840), st.integers(-720, 840), st.lists(st.integers(0, 671), min_size=1, max_size=7), st.integers(0, 671))
def test_an_offset_that_changes_between_two_windows_repeats_none_and_reaches_the_next(
    home: int, away: int, own: list[int], flight: int
) -> None:
    """Also where all that is known of a user's clock is its offset, as their device told it."""
    row = blank(1)
    row["windows"][:, : len(own)] = own
    start = 1_767_225_600 + flight * SLOT_S + 1
    claimed, slots = [], []
    for arrives, leaves, offset in ((start, start + 2 * 86_400, home), (start + 2 * 86_400, start + 9 * 86_400 + 1, away)):
        row["utc_offset_minutes"], now = offset, float(arrives)
        while (found := next_slots_of(row, now))[0][0] != NO_SLOT and found[0][0] * SLOT_S < leaves:
            now = float(found[0][0] * SLOT_S)
            slots.append(int(found[0][0]))
            if int(found[1][0]) not in claimed:
                claimed.append(int(found[1][0]))
    assert slots == sorted(set(slots))
    assert {(number + 288) % 672 for number in claimed} == set(own)
