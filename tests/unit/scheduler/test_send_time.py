"""Send times of users whose habits are known because the test made them up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.profiles import MAX_WINDOWS
from scheduler.activity import WEEK_HOURS, Activity
from scheduler.best_windows import best_windows
from scheduler.hour_experts import Smoothing
from scheduler.send_time import LEVELS, fit, levels
from scheduler.send_time_params import SendTimeParams

MONDAY = pd.Timestamp("2025-01-06", tz="UTC")
NOBODY = pd.DataFrame({"user_id": pd.Series([], dtype="str")})


def visits(user_id: str, hours: npt.ArrayLike, **columns: str | int) -> pd.DataFrame:
    """Events of one user at hours after Monday 2025-01-06 00:00 UTC."""
    at = MONDAY + pd.to_timedelta(np.asarray(hours, float) * 3600, unit="s")
    return pd.DataFrame({"user_id": user_id, "kind": "visit", "at": at}).assign(**columns)


def daily(user_id: str, hour: float, days: int = 28, first_day: int = 0, **columns: str | int) -> pd.DataFrame:
    return visits(user_id, (first_day + np.arange(days)) * 24 + hour, **columns)


def crowd(seed: int, users: int, hours: npt.ArrayLike, events: int = 40) -> pd.DataFrame:
    """Users who come at random times of a few hours of the day, over 8 weeks."""
    rng = np.random.default_rng(seed)
    return pd.concat(
        [visits(f"c{user}", rng.integers(0, 56, events) * 24 + rng.choice(np.atleast_1d(hours), events)) for user in range(users)],
        ignore_index=True,
    )


def hour_of_day(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    by_hour: npt.NDArray[np.float32] = scores.reshape(-1, 7, 24).sum(axis=1)
    return by_hour


def test_scores_are_shares_of_a_week_for_every_user_and_for_strangers() -> None:
    times = fit(pd.concat([crowd(0, 30, [8, 12, 20]), daily("owl", 2)]), NOBODY)
    for scores in (times.scores, times.population[None], times.for_users(["owl", "stranger"])):
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
        assert (scores > 0).all()


def test_a_habit_of_ones_own_outranks_the_habits_of_the_crowd() -> None:
    times = fit(pd.concat([crowd(0, 40, [8, 12, 20]), daily("owl", 2)]), NOBODY)
    assert hour_of_day(times.for_users(["owl"]))[0].argmax() == 2
    assert hour_of_day(times.for_users(["stranger"]))[0].argmax() in (8, 12, 20)


def test_someone_of_whom_nothing_is_known_gets_the_population() -> None:
    times = fit(crowd(0, 20, [9, 18]), NOBODY)
    np.testing.assert_array_equal(times.for_users(["stranger"])[0], times.population)


def test_one_event_moves_the_score_less_than_many() -> None:
    times = fit(pd.concat([crowd(0, 40, [8, 12, 20]), daily("once", 2, days=1), daily("often", 2, days=28)]), NOBODY)
    once, often = hour_of_day(times.for_users(["once", "often"]))[:, 2]
    assert times.population.reshape(7, 24).sum(axis=0)[2] < once < often


def test_users_with_little_history_are_told_from_users_with_much() -> None:
    times = fit(pd.concat([crowd(0, 40, [8, 12, 20]), daily("once", 2, days=1), daily("often", 2)]), NOBODY)
    level = {user: LEVELS[code] for user, code in zip(times.users, times.level, strict=True)}
    evidence = dict(zip(times.users, times.evidence, strict=True))
    assert (level["once"], level["often"]) == ("similar_users", "own_history")
    assert evidence["once"] == 1 < evidence["often"] <= 28


@pytest.mark.parametrize(
    ("similar", "own", "told"),
    [
        (0.4, 0.3, ["similar_users", "own_history"]),
        (0.4, 0.0, ["similar_users", "similar_users"]),
        (0.0, 0.3, ["population", "own_history"]),
        (0.0, 0.0, ["population", "population"]),
    ],
)
def test_what_the_data_taught_to_give_no_weight_is_nothing_to_rest_on(similar: float, own: float, told: list[str]) -> None:
    weights = np.array([1.0, similar, own / 4, own / 4, own / 4, own / 4, 0.2])
    assert [LEVELS[code] for code in levels(np.array([4.9, 5.0], np.float32), weights, SendTimeParams())] == told


def test_recent_weeks_count_more_than_old_ones() -> None:
    moved = pd.concat([daily("moved", 7, days=60), daily("moved", 21, days=60, first_day=360)])
    times = fit(pd.concat([crowd(0, 40, [8, 12, 20]), moved]), NOBODY)
    by_hour = hour_of_day(times.for_users(["moved"]))[0]
    assert by_hour[21] > by_hour[7]


def test_age_is_counted_from_the_users_last_event_so_a_long_absence_changes_nothing() -> None:
    habits = crowd(0, 40, [8, 12, 20])
    recent, away = (fit(pd.concat([habits, daily("user", 5, first_day=first)]), NOBODY) for first in (28, 28 - 52 * 7))
    np.testing.assert_allclose(recent.for_users(["user"]), away.for_users(["user"]), rtol=1e-3)


def test_a_burst_within_an_hour_is_little_more_evidence_than_one_event() -> None:
    burst = visits("burst", np.repeat(50.0, 200))
    times = fit(pd.concat([crowd(0, 40, [8, 12, 20]), burst]), NOBODY)
    assert times.evidence[list(times.users).index("burst")] == pytest.approx(200**0.3, rel=1e-3)


def test_hours_are_local_by_the_events_offset_then_the_zone_then_the_users_offset_then_the_commonest_zone() -> None:
    users = pd.DataFrame(
        {
            "user_id": ["tokyo", "told", "offset", "lost"],
            "timezone": ["Asia/Tokyo", "Asia/Tokyo", None, None],
            "utc_offset_minutes": [np.nan, np.nan, -180.0, np.nan],
        }
    )
    parts = [daily("tokyo", 10.5, days=60), daily("offset", 10.5), daily("lost", 10.5), daily("told", 10.5, utc_offset_minutes=60)]
    times = fit(pd.concat(parts, ignore_index=True), users)
    best = dict(zip(times.users, hour_of_day(times.scores).argmax(axis=1), strict=True))
    assert best == {"tokyo": 19, "offset": 7, "lost": 19, "told": 11}


def test_a_local_hour_stays_the_same_through_the_change_of_clocks() -> None:
    users = pd.DataFrame({"user_id": ["u"], "timezone": ["Europe/Berlin"]})
    at = pd.date_range("2025-03-01 09:10", periods=60, freq="D", tz="Europe/Berlin").tz_convert("UTC")
    events = pd.DataFrame({"user_id": "u", "kind": "visit", "at": at})
    times = fit(events, users, SendTimeParams(bandwidth_hours=0.05, session_bandwidth_hours=0.05))
    assert hour_of_day(times.scores)[0, 9] > 0.9


def test_weekends_may_differ_from_working_days() -> None:
    day = np.arange(56)
    times = fit(visits("user", day * 24 + np.where(day % 7 >= 5, 15, 8)), NOBODY)
    assert times.scores.reshape(7, 24).argmax(axis=1).tolist() == [8] * 5 + [15] * 2


def test_what_is_no_wish_to_hear_is_not_counted() -> None:
    angry = daily("user", 3, days=200).assign(kind="unsubscribe")
    times = fit(pd.concat([crowd(0, 20, [9, 18]), daily("user", 14), angry]), NOBODY)
    assert hour_of_day(times.for_users(["user"]))[0].argmax() == 14


def test_where_personal_history_misleads_the_population_is_kept() -> None:
    """Everybody's past is at hours of their own, their future at the common ones: the weights learn not to trust the past."""
    rng = np.random.default_rng(1)
    parts = []
    for user in range(150):
        past = np.sort(rng.integers(0, 40, 30)) * 24 + rng.choice(rng.integers(0, 24, 2), 30)
        future = (60 + np.arange(10)) * 24 + rng.choice([9, 13, 19], 10)
        parts.append(visits(f"u{user}", np.concatenate([past, future])))
    times = fit(pd.concat(parts, ignore_index=True), NOBODY, now=(MONDAY + pd.Timedelta(days=90)).timestamp())
    own = sum(weight for name, weight in times.weights.items() if name.startswith("own"))
    assert own < 0.3
    top = np.argsort(-hour_of_day(times.scores), axis=1)[:, :3]
    np.testing.assert_array_equal(np.sort(top, axis=1), np.tile([9, 13, 19], (150, 1)))


def test_what_is_promised_of_hours_is_what_comes_to_pass() -> None:
    """Of people whose chances are known: hours that are promised much hold that much, and those promised little that little."""
    rng = np.random.default_rng(4)
    apart = np.abs(np.arange(24) - rng.integers(0, 24, (300, 2, 1)))
    bumps = np.exp(-0.5 * (np.minimum(apart, 24 - apart) / rng.uniform(0.5, 2.0, (300, 2, 1))) ** 2)
    truth = 0.3 / 24 + 0.35 * (bumps / bumps.sum(axis=2, keepdims=True)).sum(axis=1)
    days = np.sort(rng.integers(0, 80, (300, 60)), axis=1)
    hours = days * 24 + np.stack([rng.choice(24, 60, p=chances) for chances in truth])
    events = pd.concat([visits(f"u{user}", own) for user, own in enumerate(hours)], ignore_index=True)
    times = fit(events, NOBODY, now=(MONDAY + pd.Timedelta(days=90)).timestamp())
    promised = hour_of_day(times.for_users([f"u{user}" for user in range(300)]))
    tenth = np.minimum(np.cumsum(np.sort(promised.ravel())) / promised.sum() * 10, 9).astype(int)
    kept = np.bincount(tenth, truth.ravel()[np.argsort(promised.ravel())]) / np.bincount(tenth, np.sort(promised.ravel()))
    assert ((kept > 0.74) & (kept < 1.32)).all(), kept


def test_the_session_a_user_is_in_counts_only_while_it_may_go_on() -> None:
    rng = np.random.default_rng(2)
    sessions = [
        visits(f"u{user}", np.repeat(rng.integers(0, 56, 10) * 24 + rng.integers(7, 23, 10), 6) + np.tile(np.arange(6) * 0.3, 10))
        for user in range(80)
    ]
    events = pd.concat([*sessions, daily("user", 9, days=30), visits("user", [29 * 24 + 20])], ignore_index=True)
    last = (MONDAY + pd.Timedelta(days=29, hours=20)).timestamp()
    during, after = (fit(events, NOBODY, now=last + wait_s) for wait_s in (60, 86_400))
    assert during.weights["session"] > 0.1
    hour = (29 * 24 + 20) % WEEK_HOURS
    assert during.for_users(["user"])[0, hour] > 1.5 * after.for_users(["user"])[0, hour]


def test_channels_have_scores_of_their_own_shrunk_to_all_of_the_users_hours() -> None:
    inbox, mail = daily("user", 8, channel="in_app"), daily("user", 21, channel="email")
    others = crowd(0, 30, [8, 12, 21]).assign(channel="in_app")
    times = fit(pd.concat([others, inbox, mail], ignore_index=True), NOBODY)
    assert hour_of_day(times.for_users(["user"], "in_app"))[0].argmax() == 8
    assert hour_of_day(times.for_users(["user"], "email"))[0].argmax() == 21
    np.testing.assert_array_equal(times.for_users(["c1"], "email"), times.for_users(["c1"]))
    np.testing.assert_array_equal(times.for_users(["c1"], "no_such_channel"), times.for_users(["c1"]))
    np.testing.assert_allclose(times.channels["email"].scores.sum(axis=1), 1, rtol=1e-4)


def test_without_events_every_hour_is_as_good_as_any_other() -> None:
    times = fit(visits("user", []), NOBODY)
    np.testing.assert_allclose(times.for_users(["user"]), 1 / WEEK_HOURS, rtol=1e-3)


def test_the_order_of_the_rows_does_not_matter() -> None:
    events = pd.concat([crowd(3, 25, [7, 19]), daily("owl", 2)], ignore_index=True)
    shuffled = events.sample(frac=1, random_state=0)
    names = sorted(events["user_id"].unique())
    ordered = fit(events, NOBODY).for_users(names)
    np.testing.assert_allclose(fit(shuffled, NOBODY).for_users(names), ordered, rtol=0.05, atol=1e-4)


def test_small_chunks_give_what_one_chunk_gives() -> None:
    events = crowd(3, 25, [7, 19])
    whole, cut = (fit(events, NOBODY, SendTimeParams(chunk=chunk)) for chunk in (1000, 7))
    np.testing.assert_allclose(cut.scores, whole.scores, rtol=1e-4)


def test_no_denormal_numbers_slow_the_arithmetic_and_nothing_is_lost_by_that() -> None:
    """A processor is many times slower on them; what would be one is far below the precision of the rest."""
    params, smallest = SendTimeParams(), 1e-30
    smoothing = Smoothing.of(params)
    years = np.arange(0, 24 * 365 * 8, 5)
    long_ago = Activity.of(np.zeros(len(years), np.int64), years, 1, params)
    for half_life_days in (*params.half_lives_days, params.session_hours / 24):
        counts = long_ago.counts(half_life_days)
        exact = np.bincount((years + 72) % WEEK_HOURS, np.exp2((years - years[-1]) / (24 * half_life_days)), WEEK_HOURS)
        np.testing.assert_allclose(counts[0], exact, rtol=1e-4, atol=1e-12)
        for matrix in (smoothing.habit, smoothing.session):
            assert not ((matrix > 0) & (matrix < 1e-12)).any()
            np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
            spread = counts @ matrix
            assert not ((spread > 0) & (spread < smallest)).any()


def test_a_weight_for_each_expert_is_asked_for() -> None:
    with pytest.raises(ValueError, match="one per expert"):
        SendTimeParams(weights=(1.0,))


scores_of_a_few = arrays(np.float32, st.tuples(st.integers(1, 4), st.just(WEEK_HOURS)), elements=st.floats(0, 1, width=32))


@given(scores_of_a_few, st.integers(0, MAX_WINDOWS))
def test_windows_are_as_many_as_asked_for_in_order_and_far_enough_apart(scores: npt.NDArray[np.float32], weekly: int) -> None:
    windows = best_windows(scores, weekly)
    assert windows.shape == (len(scores), weekly)
    assert (np.diff(windows.astype(int), axis=1) > 0).all()
    for row in windows.astype(int).tolist():
        days = [window // 96 for window in row]
        assert max((days.count(day) for day in days), default=0) <= (1 if weekly <= 7 else 2)
        if weekly > 7:
            same_day = [(b - a) for a, b in pairwise(row) if a // 96 == b // 96]
            assert all(apart >= 16 for apart in same_day)


@given(scores_of_a_few)
def test_by_default_each_day_has_a_window_at_its_best_hour(scores: npt.NDArray[np.float32]) -> None:
    windows = best_windows(scores)
    by_day = scores.reshape(-1, 7, 24)
    chosen = np.take_along_axis(by_day, (windows.astype(int) // 4 % 24)[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_array_equal(windows // 96, np.tile(np.arange(7), (len(scores), 1)))
    np.testing.assert_array_equal(chosen, by_day.max(axis=2))


def test_few_windows_are_on_the_best_days_and_not_side_by_side() -> None:
    scores = np.full((1, WEEK_HOURS), 0.001, np.float32)
    scores[0, [9, 24 + 9, 48 + 9, 96 + 9]] = [0.3, 0.29, 0.1, 0.2]
    assert (best_windows(scores, 2)[0] // 96).tolist() == [0, 4]
    assert (best_windows(scores, 3)[0] // 96).tolist() == [0, 2, 4]


def test_more_windows_than_a_profile_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="weekly"):
        best_windows(np.ones((1, WEEK_HOURS), np.float32), MAX_WINDOWS + 1)


def test_users_of_the_same_hour_spread_over_its_quarters_and_each_keeps_to_its_own() -> None:
    times = fit(crowd(0, 200, [9]), NOBODY)
    windows = times.windows_for(list(times.users))
    assert set((windows[:, 0] % 4).tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(windows % 4, np.tile(windows[:, :1] % 4, (1, 7)))
    np.testing.assert_array_equal(times.windows_for(["c7"]), windows[list(times.users).index("c7")][None])
