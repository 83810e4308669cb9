"""Delivery windows against a slow twin that asks zoneinfo about one user at a time."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from lake.profiles import NO_OFFSET, NO_WINDOW
from scheduler.windows import SLOT_S, next_slots, stretches_of, windows_due

ZONES = sorted(zoneinfo.available_timezones())
FROM, TO = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2025, 2031))
EPOCH = datetime.combine(date(1970, 1, 1), time.min)
WEEK_S = 604_800


def local(zone: str, at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)


def quarter_number(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds()) // SLOT_S


def opening_s(zone: str, wanted: datetime) -> int:
    """The first second at which local time reads `wanted`, or, where it never does, the first minute that reads more."""
    place = zoneinfo.ZoneInfo(zone)
    first = int(wanted.replace(tzinfo=place, fold=0).timestamp())
    if local(zone, first) == wanted:
        return first
    at_s = int(wanted.replace(tzinfo=place, fold=1).timestamp())
    while local(zone, at_s) < wanted:
        at_s += 60
    return at_s


@cache
def twin(zone: str, week_quarter: int, monday: datetime) -> tuple[int, int]:
    """Slot and window of one weekly window in the week that begins on `monday`."""
    slot = -(-opening_s(zone, monday + timedelta(minutes=15 * week_quarter)) // SLOT_S)
    return slot, quarter_number(local(zone, slot * SLOT_S))


def twin_next(now: int, zone: str, windows: list[int], *, inclusive: bool = False) -> tuple[int, int]:
    today = local(zone, now)
    monday = datetime.combine(today.date(), time.min) - timedelta(days=today.weekday())
    weeks = [monday + timedelta(weeks=week) for week in (-1, 0, 1, 2)]
    found = {twin(zone, window, week) for window in windows for week in weeks}
    return min((slot, window) for slot, window in found if slot * SLOT_S > now or (inclusive and slot * SLOT_S == now))


def padded(windows: list[list[int]]) -> npt.NDArray[np.uint16]:
    rows = np.full((len(windows), 8), NO_WINDOW, np.uint16)
    for row, own in zip(rows, windows, strict=True):
        row[: len(own)] = own
    return rows


def changes(zone: str) -> list[int]:
    stretches = stretches_of(zone)
    assert stretches is not None
    return [int(at) for at in stretches.begins if FROM <= at < TO]


def test_offsets_are_those_of_zoneinfo_on_every_day_and_around_every_change_from_2000_through_2040() -> None:
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2000, 2041))
    for zone in ZONES:
        place, stretches = zoneinfo.ZoneInfo(zone), stretches_of(zone)
        assert stretches is not None
        begins = stretches.begins[1:]
        at = np.concatenate([np.arange(first, last, 10 * 86_400), begins - 1, begins])
        ours = stretches.offset_s[np.searchsorted(stretches.begins, at, side="right") - 1]
        theirs = [(datetime.fromtimestamp(second, place).utcoffset() or timedelta()).total_seconds() for second in at.tolist()]
        np.testing.assert_array_equal(ours, theirs, err_msg=zone)


def test_no_zone_changes_its_clocks_unnoticed_between_two_changes() -> None:
    for zone in ZONES:
        place, stretches = zoneinfo.ZoneInfo(zone), stretches_of(zone)
        assert stretches is not None
        days = np.arange(FROM, TO, 86_400)
        ours = stretches.offset_s[np.searchsorted(stretches.begins, days, side="right") - 1]
        theirs = [(datetime.fromtimestamp(second, place).utcoffset() or timedelta()).total_seconds() for second in days.tolist()]
        np.testing.assert_array_equal(ours, theirs, err_msg=zone)


def test_every_window_around_every_change_of_every_zone_opens_when_the_twin_says() -> None:
    zones, nows, rows, expected = [], [], [], []
    for zone in ZONES:
        for at in changes(zone):
            shift = abs(local(zone, at) - local(zone, at - 1)).total_seconds()
            reach = int(-(-shift // SLOT_S)) + 1
            middle = (quarter_number(local(zone, at)) + 288) % 672
            for quarter in range(middle - reach, middle + reach + 1):
                for now in (at - 8 * SLOT_S, at - 1, at, at + SLOT_S):
                    zones.append(zone)
                    nows.append(now)
                    rows.append([quarter % 672])
                    expected.append(twin_next(now, zone, [quarter % 672]))
    assert len(expected) > 10_000
    windows, names = padded(rows), np.array(zones, object)
    moments, order = np.unique(nows, return_inverse=True)
    for index, now in enumerate(moments.tolist()):
        here = np.flatnonzero(order == index)
        slot, window = next_slots(now, names[here], np.full(len(here), NO_OFFSET), windows[here])
        wanted = np.array([expected[row] for row in here])
        np.testing.assert_array_equal(np.stack([slot, window], axis=1), wanted)


users = st.lists(
    st.tuples(st.sampled_from(ZONES), st.lists(st.integers(0, 671), min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)


@given(users, st.integers(FROM, TO), st.booleans())
def test_a_batch_opens_as_the_twin_says_for_each_user(batch: list[tuple[str, list[int]]], now: int, inclusive: bool) -> None:
    zones = np.array([zone.encode() for zone, _ in batch], "S32")
    windows = padded([own for _, own in batch])
    slot, window = next_slots(now, zones, np.full(len(batch), NO_OFFSET), windows, inclusive=inclusive)
    wanted = [twin_next(now, zone, own, inclusive=inclusive) for zone, own in batch]
    assert list(zip(slot.tolist(), window.tolist(), strict=True)) == wanted


@given(st.sampled_from([zone for zone in ZONES if changes(zone)]), st.data())
def test_a_window_opens_once_and_in_order_across_a_change(zone: str, data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(changes(zone)))
    windows = padded([data.draw(st.lists(st.integers(0, 671), min_size=1, max_size=8))])
    now, zones, offsets = change - WEEK_S // 2, np.array([zone]), np.array([NO_OFFSET])
    slots, numbers = [], []
    while now < change + WEEK_S // 2:
        slot, window = next_slots(now, zones, offsets, windows)
        assert windows_due(int(slot[0]), zones, offsets, windows)[0] == window[0]
        now = int(slot[0]) * SLOT_S
        slots.append(int(slot[0]))
        numbers.append(int(window[0]))
    assert slots == sorted(set(slots))
    assert numbers == sorted(set(numbers))


@given(st.integers(-960, 960), st.lists(st.integers(0, 671), min_size=1, max_size=8), st.integers(FROM, TO))
def test_a_fixed_offset_opens_at_the_first_tick_of_the_local_quarter_hour(offset: int, own: list[int], now: int) -> None:
    slot, window = next_slots(now, np.array([""]), np.array([offset]), padded([own]))
    opened = slot[0] * SLOT_S + offset * 60
    assert slot[0] * SLOT_S > now
    assert window[0] == opened // SLOT_S
    assert (window[0] + 288) % 672 in own
    between = np.arange(now // SLOT_S + 1, slot[0])
    assert not np.isin(((between * SLOT_S + offset * 60) // SLOT_S + 288) % 672, own).any()
