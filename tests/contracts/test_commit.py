"""What every committer promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budgets.ledger import MAX_ENTRIES, ROLLING_S, used
from lake.decisions import BELOW_THRESHOLD, DISPOSITIONS, DUPLICATE, HOLD, REASON, SEND
from lake.meta import Meta
from scheduler.commit import MAX_USERS, OK, STALE_FENCE, WINDOW_CLAIMED, CommitBatch, CommitResult
from scheduler.held import MAX_HELD
from scheduler.lease import shard_lease
from tests.batches import DAY_S, NOW, Row, batch, entity_key, grant_id
from tests.commit_rig import Rig, memory_rig, redis_rig

META = Meta(shards=1)


@pytest.fixture(params=["memory", "redis"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        return memory_rig(META)
    return redis_rig(META, request.getfixturevalue("redis_client"))


def commit(rig: Rig, proposed: CommitBatch) -> CommitResult:
    return rig.committer.commit([proposed])[0]


def words(result: CommitResult) -> list[str]:
    return [DISPOSITIONS[code] for code in result.disposition]


def test_a_grant_is_recorded_enqueued_and_logged_together(rig: Rig) -> None:
    row = Row("post", channel=2, value=0.75, version=3, deliver_by=NOW + 60, decision="decision-1")
    result = commit(rig, batch({"ann": [row]}, log_blob=b"rows"))
    assert words(result) == ["send"]
    grants = rig.ledger.read(["ann"])
    assert (grants.grant_id.tolist(), grants.entity.tolist(), grants.at.tolist()) == ([grant_id("ann", row)], [entity_key(row)], [NOW])
    assert (grants.channel.tolist(), grants.version.tolist(), grants.flags.tolist()) == ([2], [3], [0])
    (message,) = rig.outbox(0)
    assert message.grant_id == f"{grant_id('ann', row):016x}"
    assert (message.user_id, message.item_id, message.channel, message.version) == ("ann", "post", "push", 3)
    assert (message.value, message.granted_at, message.deliver_by) == (0.75, NOW, NOW + 60)
    assert (message.decision_id, message.reason, message.update, message.critical) == ("decision-1", "above_threshold", False, False)
    (entry,) = rig.log(0)
    assert (entry.blob, entry.final) == (b"rows", bytes([SEND, REASON["above_threshold"]]))


def test_numbers_of_a_message_keep_their_types(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("post", value=1.0)]}))
    (message,) = rig.outbox(0)
    assert [type(number) for number in (message.probability, message.value, message.threshold, message.granted_at)] == [float] * 4
    assert message.deliver_by == float("inf")
    assert type(message.version) is int


def test_budget_goes_to_the_most_valuable_rows_of_each_channel(rig: Rig) -> None:
    rows = [
        Row("a", value=0.1, budget=2),
        Row("b", value=0.9, budget=2),
        Row("c", value=0.5, budget=2),
        Row("d", channel=1, value=0.2, budget=1),
    ]
    result = commit(rig, batch({"ann": rows}))
    assert words(result) == ["send", "send", "send", "over_budget"]
    assert [message.item_id for message in rig.outbox(0)] == ["b", "c", "d"]
    assert used(rig.ledger.read(["ann"]), 1, 2, NOW).tolist() == [[2, 1]]


@pytest.mark.parametrize(("after_s", "expected"), [(0.0, "over_budget"), (ROLLING_S, "over_budget"), (ROLLING_S + 1e-3, "send")])
def test_a_unit_comes_back_after_seven_days_to_the_moment(rig: Rig, after_s: float, expected: str) -> None:
    commit(rig, batch({"ann": [Row("a", budget=1)]}))
    assert words(commit(rig, batch({"ann": [Row("b", budget=1)]}, now=NOW + after_s))) == [expected]


def test_a_grant_dated_ahead_by_another_host_counts(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a", budget=1)]}, now=NOW + 2))
    assert words(commit(rig, batch({"ann": [Row("b", budget=1)]}))) == ["over_budget"]


def test_grants_that_arrive_out_of_order_are_kept_in_order_of_time(rig: Rig) -> None:
    for name, now in (("a", NOW + 5), ("b", NOW), ("c", NOW + 9), ("d", NOW + 5)):
        commit(rig, batch({"ann": [Row(name, budget=9)]}, now=now))
    assert rig.ledger.read(["ann"]).at.tolist() == [NOW, NOW + 5, NOW + 5, NOW + 9]


def test_the_same_thing_is_never_granted_twice(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("post")]}))
    again = commit(rig, batch({"ann": [Row("post", decision="another")]}))
    on_another_channel = commit(rig, batch({"ann": [Row("post", channel=1, decision="another")]}))
    assert words(again) == words(on_another_channel) == ["duplicate"]
    assert again.reason.tolist() == [REASON["already_sent"]]
    assert len(rig.outbox(0)) == 1


def test_two_rows_of_one_batch_with_one_grant_are_granted_once(rig: Rig) -> None:
    result = commit(rig, batch({"ann": [Row("a", entity="thing", critical=True), Row("b", entity="thing", critical=True)]}))
    assert words(result) == ["send", "duplicate"]
    assert len(rig.outbox(0)) == len(rig.ledger.read(["ann"])) == 1


def test_a_lost_reply_is_answered_again_and_nothing_happens_twice(rig: Rig) -> None:
    proposed = batch({"ann": [Row("a", budget=1), Row("b", budget=1)], "bob": [Row("a", hold=True)]}, log_blob=b"rows", window=7)
    first = commit(rig, proposed)
    rig.ledger.refund(["ann"], [grant_id("ann", Row("a"))])
    again = commit(rig, proposed)
    assert words(first) == words(again) == ["send", "over_budget", "hold"]
    assert again.status.tolist() == [OK, OK]
    assert len(rig.outbox(0)) == len(rig.log(0)) == 1
    assert len(rig.ledger.read(["ann"])) == 0


def test_a_decision_made_again_in_another_batch_reports_its_own_grants(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a", decision="one")], "bob": [Row("a", version=1, decision="one")]}))
    commit(rig, batch({"bob": [Row("a", version=2, decision="one")]}))
    again = commit(rig, batch({"ann": [Row("a", decision="one")], "bob": [Row("a", version=2, decision="one")]}))
    assert words(again) == ["send", "update"]
    assert len(rig.outbox(0)) == 3


def test_a_window_is_claimed_once(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a")]}, window=7))
    again = commit(rig, batch({"ann": [Row("b")]}, window=7))
    assert (again.status.tolist(), words(again), again.reason.tolist()) == ([WINDOW_CLAIMED], ["duplicate"], [REASON["window_claimed"]])
    assert words(commit(rig, batch({"ann": [Row("b")]}, window=8))) == ["send"]


def test_a_window_whose_bytes_straddle_two_others_is_free(rig: Rig) -> None:
    for window in (0x01020304, 0x05060708):
        commit(rig, batch({"ann": []}, window=window))
    assert commit(rig, batch({"ann": []}, window=0x03040506)).status.tolist() == [OK]
    assert commit(rig, batch({"ann": []}, window=0x01020304)).status.tolist() == [WINDOW_CLAIMED]


def test_a_decided_user_moves_on_also_when_nothing_is_sent(rig: Rig) -> None:
    rig.due.enroll(["ann", "bob"], [100, 101])
    result = commit(rig, batch({"ann": [], "bob": [Row("a")]}, window=7, slot=100, next_slot=196))
    assert result.status.tolist() == [OK, WINDOW_CLAIMED]
    assert rig.due.slots(["ann", "bob"]).tolist() == [196, 101]
    assert rig.outbox(0) == []


def test_a_user_who_left_the_slot_is_not_decided_again(rig: Rig) -> None:
    rig.due.enroll(["ann"], [100])
    commit(rig, batch({"ann": [Row("a")]}, window=7, slot=100, next_slot=196))
    again = commit(rig, batch({"ann": [Row("b")]}, window=8, slot=100, next_slot=196))
    assert again.status.tolist() == [WINDOW_CLAIMED]
    assert len(rig.outbox(0)) == 1


def test_a_user_whose_window_was_claimed_still_leaves_the_slot(rig: Rig) -> None:
    commit(rig, batch({"ann": []}, window=7))
    rig.due.enroll(["ann"], [100])
    assert commit(rig, batch({"ann": []}, window=7, slot=100, next_slot=196)).status.tolist() == [WINDOW_CLAIMED]
    assert rig.due.slots(["ann"]).tolist() == [196]


def test_the_urgent_lane_enrolls_a_user_who_is_in_no_slot(rig: Rig) -> None:
    rig.due.enroll(["ann"], [100])
    commit(rig, batch({"ann": [Row("a", hold=True)], "bob": [Row("a", hold=True)]}, next_slot=50))
    assert rig.due.slots(["ann", "bob"]).tolist() == [100, 50]


def test_a_stale_fence_writes_nothing(rig: Rig) -> None:
    old = rig.leases.acquire(shard_lease(0), "old", NOW, 10)
    new = rig.leases.acquire(shard_lease(0), "new", NOW + 11, 10)
    assert old is not None
    assert new is not None
    rig.due.enroll(["ann"], [100])
    proposed = batch({"ann": [Row("a")]}, window=7, slot=100, next_slot=196, fence=old, log_blob=b"rows")
    stale = commit(rig, proposed)
    assert (stale.status.tolist(), words(stale), stale.reason.tolist()) == ([STALE_FENCE], ["duplicate"], [REASON["stale_fence"]])
    assert (rig.outbox(0), rig.log(0), rig.due.slots(["ann"]).tolist()) == ([], [], [100])
    assert words(commit(rig, replace(proposed, fence=new))) == ["send"]


def test_an_update_of_an_unopened_notification_replaces_it_and_costs_nothing(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("v1", entity="thing", version=1, budget=1)]}))
    result = commit(rig, batch({"ann": [Row("v2", entity="thing", version=2, budget=1)]}, now=NOW + DAY_S))
    assert (words(result), result.reason.tolist()) == (["update"], [REASON["newer_version"]])
    assert [message.update for message in rig.outbox(0)] == [False, True]
    grants = rig.ledger.read(["ann"])
    assert (grants.version.tolist(), grants.at.tolist()) == ([2], [NOW])


@pytest.mark.parametrize("change", ["opened", "other channel"])
def test_an_update_of_what_was_opened_or_went_elsewhere_spends_a_unit(rig: Rig, change: str) -> None:
    commit(rig, batch({"ann": [Row("v1", entity="thing", version=1, budget=1)]}))
    channel = 1 if change == "other channel" else 0
    if change == "opened":
        assert rig.ledger.mark_opened(["ann"], [entity_key(Row("v1", entity="thing"))]).all()
    result = commit(rig, batch({"ann": [Row("v2", entity="thing", version=2, channel=channel, budget=2)]}))
    assert words(result) == ["send"]
    assert used(rig.ledger.read(["ann"]), 1, 2, NOW).sum() == 2


def test_an_older_version_comes_too_late(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("v2", entity="thing", version=2)]}))
    assert words(commit(rig, batch({"ann": [Row("v1", entity="thing", version=1)]}))) == ["duplicate"]


def test_a_critical_row_goes_without_budget_on_each_of_its_channels_and_spends_none(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a", budget=1)]}))
    rows = [Row("alarm", channel=channel, critical=True, budget=0, value=float("nan")) for channel in (0, 1)]
    assert words(commit(rig, batch({"ann": rows}))) == ["send", "send"]
    assert used(rig.ledger.read(["ann"]), 1, 2, NOW).tolist() == [[1, 0]]
    assert [message.critical for message in rig.outbox(0)] == [False, True, True]
    assert words(commit(rig, batch({"ann": [replace(rows[0], decision="again")]}))) == ["duplicate"]


def test_a_refund_gives_the_unit_back_once(rig: Rig) -> None:
    row = Row("a", budget=1)
    commit(rig, batch({"ann": [row]}))
    assert rig.ledger.refund(["ann", "bob"], [grant_id("ann", row)] * 2).tolist() == [True, False]
    assert rig.ledger.refund(["ann"], [grant_id("ann", row)]).tolist() == [False]
    assert words(commit(rig, batch({"ann": [Row("b", budget=1)]}))) == ["send"]


def test_refunding_an_update_keeps_the_unit_of_what_it_replaced(rig: Rig) -> None:
    newer = Row("v2", entity="thing", version=2, budget=1)
    commit(rig, batch({"ann": [Row("v1", entity="thing", version=1, budget=1)]}))
    commit(rig, batch({"ann": [newer]}))
    assert rig.ledger.refund(["ann"], [grant_id("ann", newer)]).tolist() == [False]
    assert words(commit(rig, batch({"ann": [Row("b", budget=1)]}))) == ["over_budget"]


def test_a_held_row_that_lacks_a_unit_after_all_stays_held_and_so_do_those_told_with_it(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row(name, hold=True) for name in ("a", "b", "c")]}))
    commit(rig, batch({"ann": [Row("z", budget=1)]}, now=NOW + 1))
    rows = [Row("a", budget=1, value=0.9, decision="e"), Row("b", rides_with="a", decision="e")]
    offered = [("ann", name, 0) for name in ("a", "b", "c")]
    result = commit(rig, batch({"ann": rows}, now=NOW + 2, released=offered))
    assert words(result) == ["over_budget", "over_budget"]
    assert {row.item_id for row in rig.held.read(["ann"])[0]} == {"a", "b"}
    commit(rig, batch({"ann": rows}, now=NOW + ROLLING_S + 2, released=offered))
    assert rig.held.read(["ann"]) == [[]]


def test_held_rows_are_kept_until_released_or_expired(rig: Rig) -> None:
    rows = [Row("a", hold=True, value=0.5), Row("b", hold=True, value=0.25, expires_at=NOW + 60), Row("c", hold=True, value=1.0, channel=1)]
    result = commit(rig, batch({"ann": rows}))
    assert (words(result), result.reason.tolist()) == (["hold"] * 3, [REASON["better_next_window"]] * 3)
    assert {(held.item_id, held.channel, held.value, held.expires_at) for held in rig.held.read(["ann", "bob"])[0]} == {
        ("a", 0, 0.5, float("inf")),
        ("b", 0, 0.25, NOW + 60),
        ("c", 1, 1.0, float("inf")),
    }
    commit(rig, batch({"ann": []}, now=NOW + 61, window=7, released=[("ann", "c", 1)]))
    assert [held.item_id for held in rig.held.read(["ann"])[0]] == ["a"]


def test_a_row_held_again_is_held_once_at_its_new_value(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a", hold=True, value=0.5)]}))
    commit(rig, batch({"ann": [Row("a", hold=True, value=0.25)]}))
    assert [(held.item_id, held.value) for held in rig.held.read(["ann"])[0]] == [("a", 0.25)]


def test_the_least_valuable_held_row_gives_way_and_is_reported(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row(f"i{number}", hold=True, value=0.25 + number / 64) for number in range(MAX_HELD)]}))
    better = commit(rig, batch({"ann": [Row("better", hold=True, value=0.5)]}))
    assert [(row.user_id, row.item_id, row.value) for row in better.evicted] == [("ann", "i0", 0.25)]
    worse = commit(rig, batch({"ann": [Row("worse", hold=True, value=0.125)]}))
    assert [row.item_id for row in worse.evicted] == ["worse"]
    assert (worse.disposition.tolist(), worse.reason.tolist()) == ([BELOW_THRESHOLD], [REASON["held_evicted"]])
    assert len(rig.held.read(["ann"])[0]) == MAX_HELD


def test_what_was_granted_is_not_held(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a")]}))
    result = commit(rig, batch({"ann": [Row("a", hold=True)]}))
    assert result.disposition.tolist() == [DUPLICATE]
    assert rig.held.read(["ann"]) == [[]]


def test_a_full_batch_of_rows_of_every_kind_is_settled_in_order(rig: Rig) -> None:
    users = [f"user-{number}" for number in range(MAX_USERS)]
    commit(rig, batch({user: [Row("old")] for user in users}))
    rows = [
        Row("old", value=0.9, decision="e"),
        Row("new", value=0.8, budget=2),
        Row("more", value=0.7, budget=2),
        Row("hold", value=0.6, hold=True),
    ]
    result = commit(rig, batch(dict.fromkeys(users, rows), log_blob=b"rows"))
    assert words(result) == ["duplicate", "send", "over_budget", "hold"] * MAX_USERS
    assert rig.log(0)[-1].final == np.stack([result.disposition, result.reason], axis=1).tobytes()
    assert len(rig.outbox(0)) == 2 * MAX_USERS


def test_several_batches_are_settled_in_one_call(rig: Rig) -> None:
    results = rig.committer.commit([batch({"ann": [Row("a", budget=1)]}), batch({"ann": [Row("b", budget=1)]}), batch({"bob": [Row("a")]})])
    assert [words(result) for result in results] == [["send"], ["over_budget"], ["send"]]
    assert rig.committer.commit([]) == []


def test_grants_are_the_ids_of_rows_on_their_way(rig: Rig) -> None:
    rows = [Row("a", budget=1, value=0.9), Row("b", budget=1, value=0.1), Row("c", hold=True, value=0.05)]
    proposed = batch({"ann": rows})
    result = commit(rig, proposed)
    assert result.disposition[2] == HOLD
    assert result.grants(proposed).tolist() == [grant_id("ann", rows[0]), 0, 0]


def test_old_grants_are_forgotten_after_four_weeks(rig: Rig) -> None:
    commit(rig, batch({"ann": [Row("a")]}))
    commit(rig, batch({"ann": [Row("b")]}, now=NOW + 28 * DAY_S))
    assert len(rig.ledger.read(["ann"])) == 2
    commit(rig, batch({"ann": [Row("c")]}, now=NOW + 28 * DAY_S + 1))
    assert rig.ledger.read(["ann"]).at.tolist() == [NOW + 28 * DAY_S, NOW + 28 * DAY_S + 1]


def test_a_ledger_grows_past_its_limit_only_with_grants_that_count(rig: Rig) -> None:
    for part in range(4):
        rows = [Row(f"{part}-{number}", critical=True) for number in range(MAX_ENTRIES // 4 + 1)]
        commit(rig, batch({"ann": rows}, now=NOW + part))
    assert len(rig.ledger.read(["ann"])) == MAX_ENTRIES + 4
    commit(rig, batch({"ann": [Row("one more")]}, now=NOW + 8 * DAY_S))
    ledger = rig.ledger.read(["ann"])
    assert (len(ledger), ledger.at[-1]) == (MAX_ENTRIES, NOW + 8 * DAY_S)
    commit(rig, batch({"ann": [Row("on a slow host")]}, now=NOW + 8 * DAY_S - 1))
    assert rig.ledger.read(["ann"]).at[-2:].tolist() == [NOW + 8 * DAY_S - 1, NOW + 8 * DAY_S]


def test_names_may_hold_any_text(rig: Rig) -> None:
    for name in ("", "a b", "ünïcödé 🎈", "nul\x00crlf\r\n", "{3}", "x" * 300):
        assert words(commit(rig, batch({name: [Row(name or "item")]}))) == ["send"]
        assert rig.outbox(0)[-1].user_id == name


def test_a_batch_that_makes_no_sense_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="different users"):
        batch({})
    good = batch({"ann": [Row("a")], "bob": [Row("b")]})
    with pytest.raises(ValueError, match="sorted by user"):
        replace(good, user=good.user[::-1])
    with pytest.raises(ValueError, match="channel need one entry per row"):
        replace(good, channel=good.channel[:1])
    with pytest.raises(ValueError, match="one entry per user"):
        replace(good, slot=good.slot[:1])
