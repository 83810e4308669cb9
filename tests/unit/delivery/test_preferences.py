"""Preferences: the most specific rule wins, and a wrong row says what is wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.preferences import KindRules, PreferenceError, allowed, applied, in_quiet_hours, minute_of_day, quiet_until
from lake.ids import hash64
from lake.meta import Meta
from lake.profiles import HAS_KIND_PREFERENCES, KNOWN, blank

META = Meta(shards=1, channels=("in_app", "email", "push"))
KINDS = ("room", "post")
ROWS = st.fixed_dictionaries(
    {"allowed": st.booleans()},
    optional={"kind": st.sampled_from(KINDS), "channel": st.sampled_from(META.channels)},
)


def scalar_allowed(rows: list[dict[str, Any]], kind: str | None, channel: str) -> bool:
    """The rule in words: kind and channel before kind before channel before everything; of equals the last."""
    for wanted_kind, wanted_channel in ((kind, channel), (kind, None), (None, channel), (None, None)):
        found = [row["allowed"] for row in rows if (row.get("kind"), row.get("channel")) == (wanted_kind, wanted_channel)]
        if found:
            return bool(found[-1])
    return True


@given(st.lists(st.lists(ROWS, max_size=6), min_size=1, max_size=5))
def test_the_columns_agree_with_the_rule_in_words(preferences: list[list[dict[str, Any]]]) -> None:
    profiles = applied(blank(len(preferences)), preferences, META)
    rules = KindRules.of(preferences, META)
    cases = [(user, kind, channel) for user in range(len(preferences)) for kind in (*KINDS, None) for channel in range(len(META.channels))]
    user, channel = np.array([case[0] for case in cases]), np.array([case[2] for case in cases], np.uint8)
    kind = np.array([0 if case[1] is None else hash64([case[1]])[0] for case in cases], np.uint64)
    expected = [scalar_allowed(preferences[case[0]], case[1], META.channels[case[2]]) for case in cases]
    assert allowed(profiles, rules, user, kind, channel).tolist() == expected


def test_preferences_set_the_profile_and_leave_the_rest() -> None:
    before = blank(2)
    before["suppressed"] = 4
    rows = [{"allowed": False, "channel": "push"}, {"kind": "room", "allowed": False}]
    rows.append({"allowed": True, "quiet_from": "22:30", "quiet_to": 420, "dial": -1})
    after = applied(before, [rows, []], META)
    assert after["not_allowed"].tolist() == [4, 0]
    assert after["flags"].tolist() == [KNOWN | HAS_KIND_PREFERENCES, KNOWN]
    assert (after["quiet_from"].tolist(), after["quiet_to"].tolist()) == ([1350, -1], [420, -1])
    assert after["dial"].tolist() == [-1, 0]
    assert after["suppressed"].tolist() == [4, 4]
    assert applied(after, [[], []], META)["flags"].tolist() == [KNOWN, KNOWN]


@pytest.mark.parametrize(
    ("row", "quarter", "days"),
    [
        ({"digest_at": "18:30"}, 74, 0b1111111),
        ({"digest_at": "00:00", "digest_days": ["mon"]}, 0, 0b0000001),
        ({"digest_at": "23:45", "digest_days": ["sun", "sat", "sun"]}, 95, 0b1100000),
        ({"digest_at": 1110, "digest_days": "tue|wed"}, 74, 0b0000110),
    ],
)
def test_a_time_of_ones_own_sets_its_quarter_hour_and_its_days(row: dict[str, Any], quarter: int, days: int) -> None:
    after = applied(blank(2), [[{"allowed": True} | row], []], META)
    assert (after["digest_quarter"].tolist(), after["digest_days"].tolist()) == ([quarter, 0], [days, 0])
    assert applied(after[:1], [[]], META)["digest_days"].tolist() == [0]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"allowed": True, "digest_at": "18:31"}, "not a quarter of an hour"),
        ({"allowed": True, "digest_at": "24:00"}, "not a time of day"),
        ({"allowed": True, "digest_days": ["mon"]}, "needs digest_at"),
        ({"allowed": True, "digest_at": "18:30", "digest_days": ["moon"]}, "must be some of mon, tue"),
        ({"allowed": True, "digest_at": "18:30", "digest_days": []}, "must be some of mon, tue"),
        ({"allowed": True, "channel": "pigeon"}, "unknown channel 'pigeon'"),
        ({"allowed": True, "dial": 3}, "dial must be a whole number"),
        ({"allowed": True, "dial": 0.5}, "dial must be a whole number"),
        ({"allowed": True, "quiet_from": "22:00"}, "come together"),
        ({"allowed": True, "quiet_from": "22:00", "quiet_to": "24:00"}, "not a time of day"),
        ({"allowed": True, "quiet_from": "ten", "quiet_to": "7"}, "not a time of day"),
        ({"allowed": True, "quiet_from": -1, "quiet_to": 7}, "not a time of day"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(PreferenceError, match=problem):
        applied(blank(1), [[row]], META)


@pytest.mark.parametrize(("given", "minutes"), [("00:00", 0), ("7:05", 425), ("22:30:00", 1350), (1350, 1350), (1350.0, 1350), ("90", 90)])
def test_a_time_of_day_is_minutes_since_midnight(given: object, minutes: int) -> None:
    assert minute_of_day(given) == minutes


@pytest.mark.parametrize(
    ("begins", "ends", "quiet"),
    [(-1, -1, set()), (600, 602, {600, 601}), (1439, 1, {1439, 0}), (600, 600, set())],
)
def test_quiet_hours_may_run_past_midnight(begins: int, ends: int, quiet: set[int]) -> None:
    profiles = blank(1440)
    profiles["quiet_from"], profiles["quiet_to"] = begins, ends
    assert set(np.flatnonzero(in_quiet_hours(profiles, np.arange(1440))).tolist()) == quiet


@pytest.mark.parametrize(
    ("local", "ends"),
    [
        ("2026-03-28T23:30:00+01:00", "2026-03-29T07:00:00+02:00"),  # a short night
        ("2026-10-24T23:30:00+02:00", "2026-10-25T07:00:00+01:00"),  # a long one
        ("2026-10-25T02:30:00+01:00", "2026-10-25T07:00:00+01:00"),
        ("2026-10-25T06:59:59+01:00", "2026-10-25T07:00:00+01:00"),
        ("2026-10-25T07:00:00+01:00", None),
        ("2026-10-25T21:59:59+01:00", None),
    ],
)
def test_quiet_hours_end_by_the_users_own_clock(local: str, ends: str | None) -> None:
    profiles = blank(2)
    profiles["quiet_from"][0], profiles["quiet_to"][0] = 22 * 60, 7 * 60
    found = quiet_until(profiles, [ZoneInfo("Europe/Berlin")] * 2, datetime.fromisoformat(local).timestamp())
    assert found == [ends and datetime.fromisoformat(ends).timestamp(), None]
