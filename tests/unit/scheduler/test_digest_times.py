"""A time of the user's own goes before the predicted windows: at every change of the clocks, in the due index and through every night."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.profiles import NO_OFFSET, NO_WINDOW, WEEKDAYS, MemoryProfileStore, Profiles, blank
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores, load, reenroll
from scheduler.planning import upcoming
from scheduler.send_time import fit
from scheduler.windows import NO_SLOT, SLOT_S, chosen_windows, next_slots_of, windows_due_of

META = Meta(shards=4)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def chooser(zone: str, at: str, *days: str, offset_minutes: int = NO_OFFSET) -> Profiles:
    """Somebody with a predicted window at 9 on Mondays who chose another time."""
    profile = blank(1)
    profile["zone"], profile["utc_offset_minutes"] = zone.encode(), offset_minutes
    profile["windows"][:, 0] = 9 * 4
    hours, minutes = at.split(":")
    profile["digest_quarter"] = int(hours) * 4 + int(minutes) // 15
    profile["digest_days"] = sum(1 << WEEKDAYS.index(day) for day in days or WEEKDAYS)
    return profile


def openings(profile: Profiles, start: str, count: int) -> list[str]:
    """The next moments at which a user is told, in UTC."""
    now, found = seconds(start), []
    for _ in range(count):
        slot, window = next_slots_of(profile, now)
        assert windows_due_of(profile, int(slot[0])).tolist() == window.tolist()
        now = float(slot[0] * SLOT_S)
        found.append(datetime.fromtimestamp(now, UTC).strftime("%m-%d %H:%M"))
    return found


def test_every_day_at_the_time_that_was_chosen_and_never_at_a_predicted_one() -> None:
    assert openings(chooser("Europe/London", "18:30"), "2025-06-01 12:00", 3) == ["06-01 17:30", "06-02 17:30", "06-03 17:30"]


def test_on_given_weekdays_only() -> None:
    assert openings(chooser("Europe/London", "18:30", "tue", "sun"), "2025-06-01 18:00", 3) == ["06-03 17:30", "06-08 17:30", "06-10 17:30"]


def test_a_time_that_the_clocks_skip_moves_forward_that_day_only() -> None:
    assert openings(chooser("Europe/Berlin", "02:30"), "2025-03-29 00:00", 3) == ["03-29 01:30", "03-30 01:00", "03-31 00:30"]


def test_a_time_that_the_clocks_repeat_comes_the_first_time_only() -> None:
    assert openings(chooser("America/New_York", "01:30"), "2025-11-01 00:00", 3) == ["11-01 05:30", "11-02 05:30", "11-03 06:30"]


@pytest.mark.parametrize(
    ("zone", "offset_minutes", "opens"),
    [
        ("Pacific/Kiritimati", NO_OFFSET, "06-01 04:30"),
        ("Etc/GMT+12", NO_OFFSET, "06-01 06:30"),
        ("Asia/Kolkata", NO_OFFSET, "06-01 13:00"),
        ("Asia/Kathmandu", NO_OFFSET, "06-01 12:45"),
        ("Australia/Lord_Howe", NO_OFFSET, "06-01 08:00"),
        ("", 14 * 60, "06-01 04:30"),
        ("", -12 * 60, "06-01 06:30"),
        ("", 5 * 60 + 30, "06-01 13:00"),
        ("", NO_OFFSET, "06-01 18:30"),
    ],
)
def test_at_half_past_six_wherever_one_lives(zone: str, offset_minutes: int, opens: str) -> None:
    assert openings(chooser(zone, "18:30", offset_minutes=offset_minutes), "2025-06-01 00:00", 1) == [opens]


def test_a_half_hour_change_of_the_clocks_moves_by_half_an_hour() -> None:
    assert openings(chooser("Australia/Lord_Howe", "02:15"), "2025-10-03 20:00", 2) == ["10-04 15:30", "10-05 15:15"]


def test_a_time_inside_quiet_hours_waits_for_their_end() -> None:
    profile = chooser("UTC", "22:30", "sun")
    profile["quiet_from"], profile["quiet_to"] = 22 * 60, 7 * 60
    assert openings(profile, "2025-06-01 12:00", 2) == ["06-02 07:00", "06-09 07:00"]


def test_among_others_only_those_who_chose_leave_their_predicted_windows() -> None:
    profiles = np.concatenate([chooser("UTC", "18:30", "mon"), blank(1), blank(1)])
    profiles["windows"][1, :2] = 36, 132
    windows = chosen_windows(profiles)
    assert windows[0][windows[0] != NO_WINDOW].tolist() == [74]
    assert windows[1][windows[1] != NO_WINDOW].tolist() == [36, 132]
    assert next_slots_of(profiles, 0.0)[0][2] == NO_SLOT
    assert profiles["windows"][0, 0] == 36


def test_a_plan_of_several_windows_counts_each_of_ones_own_alike() -> None:
    profile = chooser("UTC", "09:00")
    profile["window_share"][:, 0] = 255
    ahead = upcoming(profile, seconds("2025-06-01 09:00"), 3)
    assert ahead.wait_s.tolist() == [[0.0, 86_400.0, 172_800.0, 259_200.0]]
    assert ahead.likely.tolist() == [[1.0] * 4]


@pytest.fixture
def stores() -> Stores:
    return Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))


def test_whoever_is_due_stays_due_and_everybody_else_moves(stores: Stores) -> None:
    now = seconds("2025-06-01 12:00")
    late, later = int(now // SLOT_S), int(now // SLOT_S) + 400
    users = ["due", "waiting", "new", "nowhere"]
    stores.profiles.put(users, np.concatenate([*(chooser("UTC", "18:30") for _ in range(3)), blank(1)]))
    stores.due.enroll(["due", "waiting", "nowhere"], [late, later, later])
    reenroll(users, stores, now)
    evening = int(seconds("2025-06-01 18:30") // SLOT_S)
    assert stores.due.slots(users).tolist() == [late, evening, evening, -1]


def test_a_time_in_the_preferences_table_is_the_users_from_the_first_day(stores: Stores) -> None:
    at = [pd.Timestamp("2025-05-31T08:00Z")] * 2
    preferences = {"user_id": ["ann", "bob"], "allowed": [True, True], "digest_at": ["18:30", None], "digest_days": ["mon|tue", None]}
    events = {"user_id": ["ann", "bob"], "item_id": ["x", "x"], "kind": ["view", "view"], "at": at}
    dataset = Dataset.of({"events": pd.DataFrame(events), "preferences": pd.DataFrame(preferences)})
    now = seconds("2025-06-01 12:00")
    load(dataset, stores, now, fit(dataset.events, dataset.users, now=now))
    assert stores.profiles.get(["ann", "bob"])["digest_days"].tolist() == [0b11, 0]
    assert stores.due.slots(["ann"]).tolist() == [int(seconds("2025-06-02 18:30") // SLOT_S)]
