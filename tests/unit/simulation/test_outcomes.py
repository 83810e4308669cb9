"""What sends were worth: engagement counts once, after the send, within its time; budgets are counted as the ledger does."""

from __future__ import annotations

from random import Random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.outcomes import cut_of, engaged_at, overspends, report, returned_users

START = pd.Timestamp("2024-03-04T10:00:00Z")
HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)


def rows(*triples: tuple[str, str, float], **more: str | list[str]) -> pd.DataFrame:
    """Return (user_id, item_id, at) rows; times in hours after the start."""
    users, items, hours = zip(*triples, strict=True) if triples else ((), (), ())
    at = pd.DatetimeIndex([START + hour * HOUR for hour in hours], tz="UTC").as_unit("us")
    return pd.DataFrame({"user_id": list(users), "item_id": list(items), "at": at}).assign(**more)


def decisions(*triples: tuple[str, str, float], **more: str | list[str]) -> pd.DataFrame:
    plain: dict[str, str | list[str]] = {"disposition": "send", "reason": "above_threshold", "lane": "scheduled", "channel": "in_app"}
    return rows(*triples, **plain | more)


def test_a_send_is_engaged_by_the_first_event_of_its_user_with_its_item_after_it() -> None:
    sends = rows(("ann", "x", 5), ("bob", "x", 0), ("ann", "y", 0))
    events = rows(("ann", "x", 4), ("ann", "x", 9), ("ann", "x", 7), ("bob", "y", 1))
    assert engaged_at(sends, events).tolist() == [START + 7 * HOUR, pd.NaT, pd.NaT]


def test_leaving_or_complaining_after_a_send_is_no_engagement_with_it() -> None:
    sends = decisions(("ann", "x", 0), ("bob", "x", 0), ("cid", "x", 0))
    events = rows(("ann", "x", 1), ("bob", "x", 1), ("cid", "x", 1), ("cid", "x", 3))
    events["kind"] = ["unsubscribe", "view", "dismiss", "like"]
    assert engaged_at(sends, events).tolist() == [pd.NaT, START + HOUR, START + 3 * HOUR]
    assert report(sends, events, horizon_days=7, overspent=0)["engaged_48h"] == 2


def test_engagement_is_counted_within_48_hours_7_days_and_the_horizon() -> None:
    sends = decisions(*((user, "x", 0) for user in "abcd"))
    events = rows(("a", "x", 48), ("b", "x", 49), ("c", "x", 7 * 24), ("d", "x", 10 * 24 + 1))
    worth = report(sends, events, horizon_days=10, overspent=0)
    assert (worth["engaged_48h"], worth["engaged_7d"], worth["engaged_in_horizon"]) == (1, 3, 3)
    assert (worth["sends"], worth["users"], worth["engaged_per_send"]) == (4, 4, 0.75)


def test_a_send_younger_than_the_horizon_is_neither_a_success_nor_a_failure() -> None:
    sends = decisions(("ann", "x", 0), ("bob", "x", 24), ("cid", "x", 25), ("dee", "x", 25))
    events = rows(("ann", "x", 1), ("cid", "x", 26))
    worth = report(sends, events, horizon_days=10, overspent=0, known_until=START + 11 * DAY)
    assert (worth["sends"], worth["known_sends"], worth["engaged_in_horizon"]) == (4, 2, 2)
    assert worth["engaged_per_send"] == 0.5
    told = [tenth for tenth in worth["by_activity_decile"] if tenth["sends"]]
    assert [(tenth["sends"], tenth["engaged_per_send"]) for tenth in told] == [(1, 1.0), (1, 0.0), (1, 0.0), (1, 0.0)]


def test_each_lane_tells_its_own_delay_and_engagement() -> None:
    sends = decisions(("ann", "x", 1), ("bob", "x", 30), ("cid", "y", 30), lane=["urgent", "scheduled", "scheduled"])
    items = pd.DataFrame({"item_id": ["x", "y"], "created_at": [START, START + 20 * HOUR]})
    worth = report(sends, rows(("ann", "x", 2), ("cid", "y", 90)), horizon_days=10, overspent=0, items=items)["lanes"]
    assert worth["urgent"] == {
        "sends": 1,
        "engaged_48h": 1,
        "engaged_in_horizon": 1,
        "engaged_per_send": 1.0,
        "delay_h_median": 1.0,
        "delay_h_p90": 1.0,
    }
    assert (worth["scheduled"]["engaged_48h"], worth["scheduled"]["engaged_in_horizon"]) == (0, 1)
    assert (worth["scheduled"]["delay_h_median"], worth["scheduled"]["delay_h_p90"]) == (20.0, 28.0)


def test_each_source_tells_its_own_delay_and_engagement_and_together_they_are_the_whole() -> None:
    """What was decided and not sent belongs to no source; a log without sources tells of none."""
    told = [("ann", "x", 1.0), ("bob", "x", 30.0), ("cid", "y", 30.0), ("dee", "y", 31.0)]
    log = decisions(*told, source=["trending", "new_posts", "new_posts", "held"], disposition=["send", "send", "send", "hold"])
    items = pd.DataFrame({"item_id": ["x", "y"], "created_at": [START, START + 20 * HOUR]})
    events = rows(("ann", "x", 2), ("cid", "y", 90), ("dee", "y", 32))
    worth = report(log, events, horizon_days=10, overspent=0, items=items)
    assert worth["sources"] == {
        "new_posts": {
            "sends": 2,
            "engaged_48h": 0,
            "engaged_in_horizon": 1,
            "engaged_per_send": 0.5,
            "delay_h_median": 20.0,
            "delay_h_p90": 28.0,
        },
        "trending": {
            "sends": 1,
            "engaged_48h": 1,
            "engaged_in_horizon": 1,
            "engaged_per_send": 1.0,
            "delay_h_median": 1.0,
            "delay_h_p90": 1.0,
        },
    }
    for total, name in (("sends", "sends"), ("engaged_48h", "engaged_48h"), ("engaged_in_horizon", "engaged_in_horizon")):
        assert worth[total] == sum(each[name] for each in worth["sources"].values())
    assert report(log.drop(columns=["source"]), events, horizon_days=10, overspent=0)["sources"] == {}


def valued(*quadruples: tuple[str, str, float, float]) -> pd.DataFrame:
    return rows(*(part[:3] for part in quadruples)).assign(value=[part[3] for part in quadruples])


def test_the_cut_is_what_the_best_sends_save_of_anothers_for_as_many_engagements() -> None:
    events = rows(("ann", "x", 1), ("bob", "x", 1), ("cid", "y", 1))
    others = valued(("ann", "x", 0, 0.5), ("ann", "y", 0, 0.5), ("bob", "y", 0, 0.5), ("cid", "x", 0, 0.5))
    mine = valued(("ann", "y", 0, 0.1), ("ann", "x", 0, 0.7), ("bob", "y", 0, 0.9), ("bob", "x", 0, 0.3))
    found = cut_of(mine, others, events, horizon_days=7)
    assert (found["sends"], found["engaged"], found["cut"], found["threshold"]) == (2, 1, 0.5, 0.7)
    assert cut_of(mine.head(1), others, events, horizon_days=7)["cut"] is None
    assert cut_of(mine, others.head(0), events, horizon_days=7)["cut"] is None


def test_sends_younger_than_the_horizon_are_neither_cut_nor_needed() -> None:
    events = rows(("ann", "x", 1), ("bob", "x", 1), ("cid", "x", 26))
    mine = valued(("dee", "x", 25, 0.9), ("cid", "x", 25, 0.8), ("bob", "x", 0, 0.7), ("ann", "y", 0, 0.1))
    others = valued(("ann", "x", 0, 0.5), ("bob", "y", 0, 0.5), ("cid", "y", 25, 0.5), ("cid", "x", 25, 0.5))
    found = cut_of(mine, others, events, horizon_days=7, known_until=START + 8 * DAY)
    assert (found["sends"], found["to_reach"], found["cut"], found["threshold"]) == (1, 1, 0.5, 0.7)


def test_what_reaches_nothing_is_replaced_by_no_send() -> None:
    others = valued(("ann", "y", 0, 0.5))
    assert cut_of(others, others, rows(), horizon_days=7)["cut"] == 1.0


def test_only_what_was_sent_is_worth_anything() -> None:
    sent, not_sent = decisions(("ann", "x", 0)), decisions(("ann", "y", 0), disposition="over_budget", reason="window_full")
    worth = report(pd.concat([sent, not_sent], ignore_index=True), rows(("ann", "y", 1)), horizon_days=14, overspent=0)
    assert (worth["sends"], worth["engaged_in_horizon"]) == (1, 0)
    assert worth["dispositions"] == {"over_budget": 1, "send": 1}
    assert worth["reasons"] == {"above_threshold": 1, "window_full": 1}
    assert (worth["by_lane"], worth["by_channel"]) == ({"scheduled": 1}, {"in_app": 1})


@pytest.mark.parametrize("events", [rows(), rows(("ann", "x", 1))])
def test_no_sends_are_worth_nothing(events: pd.DataFrame) -> None:
    worth = report(decisions(("ann", "x", 0)).head(0), events, horizon_days=14, overspent=0)
    assert (worth["sends"], worth["engaged_per_send"], worth["sends_per_user"], worth["returned_users"]) == (0, 0.0, 0.0, 0)


def test_users_return_when_anything_of_theirs_follows_a_send_within_a_week() -> None:
    sends = rows(("ann", "x", 0), ("bob", "x", 0), ("cid", "x", 0), ("cid", "y", 200))
    events = rows(("ann", "z", 1), ("bob", "x", 7 * 24 + 1), ("cid", "z", 300), ("dee", "x", 1))
    assert returned_users(sends, events) == 2


def test_one_send_more_than_the_budget_within_seven_days_is_one_overspend() -> None:
    sends = rows(*(("ann", f"i{n}", 24.0 * n) for n in range(8)), channel="in_app")
    assert overspends(sends, 8) == 0
    assert overspends(sends, 7) == 1
    assert overspends(sends.iloc[:7], 7) == 0


def test_a_send_exactly_seven_days_after_another_still_shares_its_week() -> None:
    assert overspends(rows(("ann", "x", 0), ("ann", "y", 7 * 24), channel="in_app"), 1) == 1
    assert overspends(rows(("ann", "x", 0), ("ann", "y", 7 * 24 + 0.001), channel="in_app"), 1) == 0


def test_users_and_channels_have_budgets_of_their_own() -> None:
    sends = rows(("ann", "x", 0), ("ann", "y", 1), ("bob", "x", 0), channel=["in_app", "email", "in_app"])
    assert overspends(sends, 1) == 0
    assert overspends(sends, pd.Series([1, 0, 0])) == 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 400)), max_size=25), st.integers(0, 4))
def test_overspends_are_what_counting_send_by_send_gives(sent: list[tuple[str, int]], weekly: int) -> None:
    sends = rows(*((user, f"i{n}", float(hour)) for n, (user, hour) in enumerate(sent)), channel="in_app")
    over = 0
    for n, (user, hour) in enumerate(sorted(sent, key=lambda each: each[1])):
        before = sorted(sent, key=lambda each: each[1])[:n]
        over += sum(other == user and hour - at <= 7 * 24 for other, at in before) + 1 > weekly
    assert overspends(sends, weekly) == over


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 60)), max_size=12), st.randoms())
def test_engagement_does_not_depend_on_the_order_of_rows(events: list[tuple[str, str, int]], random: Random) -> None:
    sends = rows(("a", "x", 10), ("b", "x", 20), ("a", "y", 0))
    log = rows(*((user, item, float(hour)) for user, item, hour in events))
    shuffled = log.sample(frac=1, random_state=random.randint(0, 2**31))
    assert engaged_at(sends, log).equals(engaged_at(sends, shuffled))
    backwards = engaged_at(sends[::-1], log)
    assert engaged_at(sends, log).equals(backwards[::-1])


def test_every_tenth_of_the_users_has_its_volume_and_engagement_the_least_active_first() -> None:
    users = [f"u{number:02}" for number in range(20)]
    told = decisions(*((user, "x", 0) for user in users[10:]))
    untold = decisions(*((user, "x", 0) for user in users[:10]), disposition="over_budget")
    earlier = [(user, "w", -1 - hour) for number, user in enumerate(users) for hour in range(number)]
    events = rows(*earlier, ("u19", "x", 1), ("u10", "x", 2), *(("u00", "x", hour) for hour in range(1, 40)))
    tenths = report(pd.concat([told, untold], ignore_index=True), events, horizon_days=14, overspent=0)["by_activity_decile"]
    assert [tenth["users"] for tenth in tenths] == [2] * 10
    assert [tenth["events_before"] for tenth in tenths] == [4 * number + 1 for number in range(10)]
    assert [tenth["sends"] for tenth in tenths] == [0] * 5 + [2] * 5
    assert [tenth["engaged_per_send"] for tenth in tenths] == [0.0] * 5 + [0.5, 0.0, 0.0, 0.0, 0.5]
    assert sum(tenth["share_of_sends"] for tenth in tenths) == pytest.approx(1)
    assert sum(tenth["share_of_users"] for tenth in tenths) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40))
def test_the_tenths_together_are_the_whole(pairs: list[tuple[int, bool]]) -> None:
    made = decisions(*((f"u{user}", "x", hour) for hour, (user, _) in enumerate(pairs)))
    made["disposition"] = ["send" if sent else "below_threshold" for _, sent in pairs]
    worth = report(made, rows(("u1", "x", 99)), horizon_days=14, overspent=0)
    tenths = worth["by_activity_decile"]
    assert sum(tenth["sends"] for tenth in tenths) == worth["sends"]
    assert sum(tenth["users"] for tenth in tenths) == len({user for user, _ in pairs})
    assert sum(tenth["engaged_in_horizon"] for tenth in tenths) == worth["engaged_in_horizon"]
