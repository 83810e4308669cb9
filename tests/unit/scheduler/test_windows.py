"""Delivery windows at the moments where clocks are odd, written out by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from lake.profiles import NO_OFFSET, NO_WINDOW, blank
from scheduler.windows import (
    NO_SLOT,
    SLOT_S,
    LocalTimes,
    local_quarters,
    next_slots,
    next_slots_of,
    outside_quiet,
    windows_due,
    windows_due_of,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def quarter_of_week(text: str) -> int:
    day, clock = text.split()
    hour, minute = clock.split(":")
    return DAYS.index(day) * 96 + int(hour) * 4 + int(minute) // 15


def windows_of(*texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    row = [quarter_of_week(text) for text in texts]
    return np.array([row + [NO_WINDOW] * (8 - len(row))], np.uint16)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def openings(zone: str, start: str, count: int, *windows: str, offset_minutes: int = NO_OFFSET) -> list[tuple[str, str]]:
    """The next windows as (UTC moment, the local date and time they go by)."""
    now, found = seconds(start), []
    for _ in range(count):
        slot, window = next_slots(now, np.array([zone]), np.array([offset_minutes]), windows_of(*windows))
        now = float(slot[0] * SLOT_S)
        named = datetime.fromtimestamp(int(window[0]) * SLOT_S, UTC)
        found.append((datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M"), named.strftime("%Y-%m-%d %H:%M")))
    return found


def test_a_skipped_local_time_opens_at_the_first_quarter_hour_after_the_gap() -> None:
    assert openings("Europe/Berlin", "2025-03-29 12:00", 2, "sun 02:15") == [
        ("2025-03-30 01:00", "2025-03-30 03:00"),
        ("2025-04-06 00:15", "2025-04-06 02:15"),
    ]


def test_windows_that_a_gap_moves_to_one_moment_are_one_window() -> None:
    assert openings("Europe/Berlin", "2025-03-29 12:00", 2, "sun 02:15", "sun 02:45", "sun 03:00", "sun 03:15") == [
        ("2025-03-30 01:00", "2025-03-30 03:00"),
        ("2025-03-30 01:15", "2025-03-30 03:15"),
    ]


def test_a_local_time_that_comes_twice_opens_the_first_time_only() -> None:
    assert openings("America/New_York", "2025-11-01 20:00", 2, "sun 01:30") == [
        ("2025-11-02 05:30", "2025-11-02 01:30"),
        ("2025-11-09 06:30", "2025-11-09 01:30"),
    ]


def test_between_the_two_times_that_a_window_comes_it_has_been() -> None:
    assert openings("America/New_York", "2025-11-02 06:10", 1, "sun 01:30") == [("2025-11-09 06:30", "2025-11-09 01:30")]


def test_a_half_hour_change_moves_by_half_an_hour() -> None:
    assert openings("Australia/Lord_Howe", "2025-10-04 00:00", 1, "sun 02:15") == [("2025-10-04 15:30", "2025-10-05 02:30")]


@pytest.mark.parametrize(
    ("zone", "opens"),
    [
        ("Asia/Kathmandu", "2025-06-02 03:15"),
        ("Pacific/Chatham", "2025-06-01 20:15"),
        ("Pacific/Kiritimati", "2025-06-01 19:00"),
        ("Etc/GMT+12", "2025-06-02 21:00"),
        ("Asia/Kolkata", "2025-06-02 03:30"),
    ],
)
def test_zones_far_from_utc_or_off_the_hour_open_at_their_own_nine_o_clock(zone: str, opens: str) -> None:
    assert openings(zone, "2025-06-01 12:00", 1, "mon 09:00") == [(opens, "2025-06-02 09:00")]


def test_the_leap_day_is_a_day_like_any_other() -> None:
    days = [local for _, local in openings("Europe/Lisbon", "2028-02-28 00:00", 3, "mon 10:00", "tue 10:00", "wed 10:00")]
    assert days == ["2028-02-28 10:00", "2028-02-29 10:00", "2028-03-01 10:00"]


def test_an_offset_that_is_no_multiple_of_a_quarter_hour_opens_at_the_next_tick() -> None:
    assert openings("", "2025-06-01 12:00", 1, "mon 09:00", offset_minutes=53) == [("2025-06-02 08:15", "2025-06-02 09:00")]


@pytest.mark.parametrize("zone", ["", "Mars/Olympus_Mons", "../etc/passwd"])
def test_without_a_usable_zone_the_offset_counts_and_failing_that_utc(zone: str) -> None:
    assert openings(zone, "2025-06-01 12:00", 1, "mon 09:00", offset_minutes=-300) == [("2025-06-02 14:00", "2025-06-02 09:00")]
    assert openings(zone, "2025-06-01 12:00", 1, "mon 09:00") == [("2025-06-02 09:00", "2025-06-02 09:00")]


def test_a_user_who_flies_east_meets_the_same_window_number_at_an_earlier_tick() -> None:
    at_home = openings("America/New_York", "2025-06-02 00:00", 1, "mon 09:00")
    after_landing = openings("Europe/London", "2025-06-02 00:00", 1, "mon 09:00")
    assert at_home == [("2025-06-02 13:00", "2025-06-02 09:00")]
    assert after_landing == [("2025-06-02 08:00", "2025-06-02 09:00")]


def test_a_slot_planned_at_home_is_not_due_once_the_user_has_flown() -> None:
    slot = int(seconds("2025-06-02 13:00")) // SLOT_S
    zones = np.array([b"America/New_York", b"Europe/London"], "S32")
    due = windows_due(slot, zones, np.full(2, NO_OFFSET), np.repeat(windows_of("mon 09:00"), 2, axis=0))
    assert due[0] == int(seconds("2025-06-02 09:00")) // SLOT_S
    assert due[1] == NO_SLOT


def test_a_window_that_opens_now_counts_only_when_asked_for() -> None:
    now, utc = seconds("2025-06-02 09:00"), np.array(["UTC"])
    later, _ = next_slots(now, utc, np.array([0]), windows_of("mon 09:00"))
    same, _ = next_slots(now, utc, np.array([0]), windows_of("mon 09:00"), inclusive=True)
    assert (same[0], later[0]) == (now // SLOT_S, now // SLOT_S + 672)


def test_nobody_and_a_user_without_windows_have_no_slot() -> None:
    nobody, _ = next_slots(0.0, np.empty(0, "S32"), np.empty(0, np.int16), np.empty((0, 8), np.uint16))
    slot, window = next_slots(0.0, np.array([b""], "S32"), np.array([NO_OFFSET]), windows_of())
    assert len(nobody) == 0
    assert (slot[0], window[0]) == (NO_SLOT, NO_SLOT)


def test_windows_inside_quiet_hours_open_at_their_end() -> None:
    quiet = np.array([[22 * 60, 7 * 60 + 10]], np.int16)
    moved = outside_quiet(windows_of("sun 23:30", "mon 06:00", "mon 21:45", "mon 22:00", "mon 07:15"), quiet)
    assert moved[0, :5].tolist() == [quarter_of_week(text) for text in ("mon 07:15", "mon 07:15", "mon 21:45", "tue 07:15", "mon 07:15")]
    assert (moved[0, 5:] == NO_WINDOW).all()


def test_equal_or_absent_quiet_hours_move_nothing() -> None:
    for quiet in ([600, 600], [-1, -1], [-1, 600]):
        assert (outside_quiet(windows_of("mon 10:00"), np.array([quiet], np.int16)) == windows_of("mon 10:00")).all()


def test_a_profile_says_when_its_user_is_next_due_and_what_is_due_then() -> None:
    profiles = blank(2)
    profiles["zone"] = [b"Europe/Berlin", b""]
    profiles["quiet_from"], profiles["quiet_to"] = [-1, 8 * 60], [-1, 10 * 60]
    profiles["windows"][:, 0] = quarter_of_week("mon 09:00")
    slot, window = next_slots_of(profiles, seconds("2025-06-01 12:00"))
    assert slot.tolist() == [int(seconds(text)) // SLOT_S for text in ("2025-06-02 07:00", "2025-06-02 10:00")]
    assert windows_due_of(profiles, int(slot[0])).tolist() == [window[0], NO_SLOT]
    times = LocalTimes.of(profiles["zone"], profiles["utc_offset_minutes"])
    assert times.minutes_at(seconds("2025-06-01 12:00")).tolist() == [14 * 60, 12 * 60]


def test_events_take_the_local_time_of_their_user() -> None:
    times = LocalTimes.of(np.array(["Asia/Tokyo", "America/Lima"]), np.array([NO_OFFSET, NO_OFFSET]))
    at = np.array([0, 86_400, 172_800])
    assert (times.take(np.array([1, 0, 1])).offset_at(at) // 3600).tolist() == [-5, 9, -5]
    assert local_quarters(times, np.array([96, 96])).tolist() == [96 + 36, 96 - 20]
