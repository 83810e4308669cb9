"""The lanes: rows and their order, windows, chunks, fences; what the scheduled lane decides it decides once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.clock import HeldClock
from lake.decisions import DISPOSITIONS, REASONS, Decided, Lane
from lake.follows import Followed, MemoryFollowStore
from lake.ids import shard_of
from lake.profiles import NO_WINDOW, blank
from scheduler.held import MemoryHeldStore
from scheduler.lanes import CHUNK, WEEK_SLOTS, ScheduledLane, UrgentLane, UrgentRequest, candidates_of, results_of, windows_at
from scheduler.lease import shard_lease
from scheduler.report import LaneReport
from scheduler.sources import NewPosts
from scheduler.windows import NO_SLOT, SLOT_S
from tests.unit.scheduler.test_pipeline import META, MONDAY_NOON, World

NOON_SLOT = int(MONDAY_NOON // SLOT_S)


def request(users: Sequence[str], item_id: str = "x", channels: tuple[str, ...] = ("in_app",), decision_id: str = "d") -> UrgentRequest:
    return UrgentRequest(None, item_id, list(users), channels, False, "key", decision_id)


some_requests = st.lists(
    st.builds(
        request,
        users=st.lists(st.sampled_from(["ann", "bob", "cid", "dee"]), min_size=1, max_size=4, unique=True),
        item_id=st.sampled_from("xyz"),
        channels=st.sampled_from([("in_app",), ("email",), ("email", "in_app")]),
    ),
    min_size=1,
    max_size=5,
)


@given(some_requests)
def test_rows_of_merged_requests_are_sorted_by_user_and_go_back_to_where_they_were_asked(requests: list[UrgentRequest]) -> None:
    requests = [replace(each, decision_id=f"d{n}") for n, each in enumerate(requests)]
    rows, order = candidates_of(requests, META)
    asked = [(n, user, each.item_id, name) for n, each in enumerate(requests) for user in each.users for name in each.channels]
    assert (np.diff(rows.user) >= 0).all()
    columns = zip(rows.request, rows.user, rows.item, rows.channel, strict=True)
    told = [(int(number), rows.users[user], rows.items[item], META.channels[channel]) for number, user, item, channel in columns]
    assert [asked[place] for place in order.tolist()] == told
    n = len(rows)
    value = order.astype(np.float32)
    nothing = np.zeros(n, np.uint8)
    decided = Decided(
        rows, value, value, value, value, np.zeros(n, np.int16), nothing, nothing, np.zeros(n, np.uint64), [], "urgent", "m", 0.0
    )
    results = results_of(requests, decided, order, META)
    assert [result.decision_id for result in results] == [each.decision_id for each in requests]
    flat = [(user, channel) for result in results for user, channel in zip(result.user_id, result.channel, strict=True)]
    assert flat == [(user, name) for _, user, _, name in asked]
    assert [score for result in results for score in result.score] == [float(place) for place in range(n)]


def test_what_was_not_scored_has_no_score_and_names_its_reason() -> None:
    rows, order = candidates_of([request(["ann", "bob"])], META)
    value = np.array([np.nan, 0.25], np.float32)
    codes = np.array([DISPOSITIONS.index("ineligible"), DISPOSITIONS.index("send")], np.uint8)
    reasons = np.array([REASONS.index("unknown_user"), REASONS.index("above_threshold")], np.uint8)
    zeros = np.zeros(2, np.int16)
    decided = Decided(rows, value, value, value, value, zeros, codes, reasons, np.zeros(2, np.uint64), ["d"], "urgent", "m", 0.0)
    (result,) = results_of([request(["ann", "bob"])], decided, order, META)
    assert result.score == [None, 0.25]
    assert result.disposition == ["ineligible", "send"]
    assert result.reason == ["unknown_user", "above_threshold"]


def test_a_window_is_the_one_that_opened_at_the_users_own_slot() -> None:
    rows = blank(3)
    rows["zone"] = b"UTC"
    rows["windows"][:, 0] = [48, 48, NO_WINDOW]
    windows = windows_at(rows, np.array([NOON_SLOT, NOON_SLOT + 1, NOON_SLOT]))
    assert windows[0] >= 0
    assert windows[1:].tolist() == [NO_SLOT, NO_SLOT]


@dataclass
class Reports:
    """Keeps what lanes report."""

    kept: list[tuple[Lane, LaneReport]] = field(default_factory=list)

    def __call__(self, lane: Lane, report: LaneReport) -> None:
        self.kept.append((lane, report))


@pytest.fixture
def crowd() -> World:
    """Two chunks and a bit of users of one shard, whose window opens on Monday noon, and one new item."""
    made = World.in_memory()
    users = [name for name in (f"u{n}" for n in range(4 * CHUNK)) if shard_of(name, META.shards) == 0][: CHUNK + 100]
    rows = blank(len(users))
    rows["zone"] = b"UTC"
    rows["windows"][:, 0] = 48
    made.profiles.put(users, rows)
    made.due.enroll(users, [NOON_SLOT] * len(users))
    made.items.put([{"item_id": "x", "created_at": MONDAY_NOON - 60}])
    return made


def lane_of(world: World, reports: Reports) -> ScheduledLane:
    return ScheduledLane(world.pipeline(), world.due, (NewPosts(world.follows),), [0], reports)


def fence_of(world: World) -> int:
    fence = world.leases.acquire(shard_lease(0), "me", MONDAY_NOON, 3600.0)
    assert fence is not None
    return fence


def test_a_shard_is_decided_in_chunks_each_user_once_and_reported_as_one(crowd: World) -> None:
    reports = Reports()
    report = lane_of(crowd, reports).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON + 30))
    assert reports.kept == [("scheduled", report)]
    assert (report.users, report.sends, report.late_s, report.slot) == (CHUNK + 100, CHUNK + 100, 30.0, NOON_SLOT)
    assert len({message.user_id for message in crowd.messages()}) == len(crowd.messages()) == CHUNK + 100
    assert crowd.due.counts(NOON_SLOT)[0] == 0
    assert lane_of(crowd, reports).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON + 60)).users == 0


def test_a_worker_that_lost_its_shard_stops_at_once(crowd: World) -> None:
    old = fence_of(crowd)
    crowd.leases.release(shard_lease(0), "me", old)
    crowd.leases.acquire(shard_lease(0), "other", MONDAY_NOON, 60.0)
    report = lane_of(crowd, Reports()).run(0, NOON_SLOT, old, HeldClock(MONDAY_NOON))
    assert report.users == CHUNK
    assert crowd.messages() == []
    assert crowd.due.counts(NOON_SLOT)[0] == CHUNK + 100


def test_a_run_that_died_half_way_is_finished_by_running_again(crowd: World) -> None:
    lane, fence = lane_of(crowd, Reports()), fence_of(crowd)
    users, slots = crowd.due.due(0, NOON_SLOT, CHUNK)
    lane.decide(0, users, slots, fence, MONDAY_NOON)
    report = lane.run(0, NOON_SLOT, fence, HeldClock(MONDAY_NOON + 5))
    assert report.users == 100
    assert len({message.user_id for message in crowd.messages()}) == len(crowd.messages()) == CHUNK + 100


def test_whoever_has_no_window_any_more_is_told_nothing_and_looked_at_again_in_a_week(crowd: World) -> None:
    users, _ = crowd.due.due(0, NOON_SLOT, 2)
    crowd.profiles.write(users[:1], "windows", np.full((1, 14), NO_WINDOW, np.uint16))
    lane_of(crowd, Reports()).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON))
    assert users[0] not in {message.user_id for message in crowd.messages()}
    assert crowd.due.slots(users).tolist() == [NOON_SLOT + WEEK_SLOTS, NOON_SLOT + WEEK_SLOTS]


def test_an_urgent_item_without_a_time_came_to_be_now(crowd: World) -> None:
    users, _ = crowd.due.due(0, NOON_SLOT, 1)
    lane = crowd.urgent()
    fresh = replace(request(users, "fresh"), item={"item_id": "fresh", "half_life_s": 60.0})
    (result,) = lane.decide([fresh], MONDAY_NOON - 7200)
    assert result.disposition == ["send"]
    (row,) = crowd.items.get(["fresh"])
    assert row is not None
    assert row["created_at"] == MONDAY_NOON - 7200


def test_an_item_that_comes_again_with_others_to_tell_is_as_old_as_it_was(crowd: World) -> None:
    users, _ = crowd.due.due(0, NOON_SLOT, 2)
    lane = crowd.urgent()
    for number, user in enumerate(users):
        lane.decide([replace(request([user], "fresh"), item={"item_id": "fresh"})], MONDAY_NOON + 60 * number)
    (row,) = crowd.items.get(["fresh"])
    assert row is not None
    assert row["created_at"] == MONDAY_NOON


def test_an_item_that_another_gateway_put_is_as_old_as_it_was(crowd: World) -> None:
    users, _ = crowd.due.due(0, NOON_SLOT, 1)
    lane = crowd.urgent()
    crowd.items.put([{"item_id": "known", "created_at": MONDAY_NOON - 7200}])
    lane.decide([replace(request(users, "known"), item={"item_id": "known"})], MONDAY_NOON)
    assert crowd.items.get(["known"]) == [{"item_id": "known", "created_at": MONDAY_NOON - 7200}]


def test_the_audience_of_a_topic_is_everybody_who_follows_it_once_and_at_most_one_more_than_asked_for() -> None:
    follows = MemoryFollowStore(META)
    names = [f"u{n}" for n in range(30)]
    follows.put(names, [Followed(("chess",) if n % 3 else ("jazz",)) for n in range(30)])
    lane = UrgentLane(World.in_memory().pipeline(), follows, MemoryHeldStore())
    assert sorted(lane.audience("chess", 100)) == sorted(name for n, name in enumerate(names) if n % 3)
    assert len(lane.audience("chess", 5)) == 6
    assert lane.audience("knitting", 5) == []
