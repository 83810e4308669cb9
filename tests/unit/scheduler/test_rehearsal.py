"""Dry runs: they say what would be decided, as the real thing then does, and leave nothing behind but marked log rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from lake.decision_log import DRY_TABLE, TABLE, DecisionLog
from lake.history import History
from lake.redis_decision_log import RedisDecisionStream
from lake.redis_user_keys import RedisUserKeys
from scheduler.critical import PER_DAY
from scheduler.lanes import UrgentLane, UrgentRequest
from scheduler.report import LaneReport
from tests.unit.scheduler.test_pipeline import META, MONDAY_NOON, USERS, World, furnished, urgent

NOW = MONDAY_NOON - 1800
LIVE = {"item_id": "live", "created_at": NOW - 60, "half_life_s": 600.0}
Outcomes = list[tuple[str, str]]


@dataclass
class Stage:
    """A world whose every trace can be looked at."""

    world: World
    reports: list[LaneReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pipeline = self.world.pipeline()

    def decide(self, *requests: UrgentRequest, now: float = NOW) -> list[Outcomes]:
        lane = UrgentLane(self.pipeline, self.world.follows, self.world.held, lambda _, report: self.reports.append(report))
        return [list(zip(each.disposition, each.reason, strict=True)) for each in lane.decide(list(requests), now)]

    def traces(self) -> Any:
        """Return everything a decision could leave behind, but the log."""
        ledger = self.world.ledger.read(USERS)
        return (
            {name: getattr(ledger, name).tolist() for name in ("user", "grant_id", "at", "flags")},
            self.world.messages(),
            self.world.held.read(USERS),
            self.world.due.slots(USERS).tolist(),
            self.pipeline.critical_quota.spent("key", NOW),
            self.world.items.changes("")[0],
            len(self.reports),
        )


@pytest.fixture(params=["memory", "store"])
def stage(request: pytest.FixtureRequest) -> Stage:
    made = World.in_memory() if request.param == "memory" else World.in_store(request.getfixturevalue("redis_client"))
    furnished(made)
    made.items.put([LIVE, {"item_id": "slow", "created_at": NOW - 60, "half_life_s": 30 * 86400.0}])
    return Stage(made)


def dry(request: UrgentRequest) -> UrgentRequest:
    return replace(request, dry_run=True, decision_id=f"dry-{request.decision_id}")


@pytest.mark.parametrize(
    "request_",
    [
        urgent("live", [*USERS, "stranger"], channels=("in_app", "email")),
        urgent("slow", USERS),  # held for the window at noon
        urgent("live", USERS, channels=("in_app", "email"), critical=True),
        urgent("gone", USERS),
    ],
    ids=["send", "hold", "critical", "unknown"],
)
def test_a_dry_run_says_what_the_request_then_does_and_leaves_no_trace(stage: Stage, request_: UrgentRequest) -> None:
    before = stage.traces()
    rehearsed = stage.decide(dry(request_))
    assert stage.traces() == before
    assert stage.decide(request_) == rehearsed
    assert stage.traces() != before


def test_a_dry_run_heeds_what_was_sent_and_what_is_left_of_the_budget(stage: Stage) -> None:
    stage.decide(urgent("live", ["ann"]))
    stage.world.items.put([LIVE | {"item_id": name, "created_at": NOW} for name in ("b", "c")])
    stage.decide(urgent("b", ["ann"], decision_id="d2"))
    assert stage.decide(dry(urgent("live", ["ann"]))) == [[("duplicate", "already_sent")]]
    assert stage.decide(dry(urgent("c", ["ann"]))) == [[("over_budget", "budget_spent")]]


def test_a_dry_run_tells_an_update_of_what_is_unopened(stage: Stage) -> None:
    stage.world.items.put([LIVE | {"item_id": name, "entity_id": "e", "version": version} for name, version in (("e1", 1), ("e2", 2))])
    stage.decide(urgent("e1", ["ann"]))
    before = stage.traces()
    assert stage.decide(dry(urgent("e2", ["ann"]))) == [[("update", "newer_version")]]
    assert stage.traces() == before
    assert stage.decide(urgent("e2", ["ann"], decision_id="d2")) == [[("update", "newer_version")]]


def test_a_new_item_is_rehearsed_and_stays_unknown(stage: Stage) -> None:
    fresh = replace(urgent("fresh", ["ann"]), item={"item_id": "fresh", "half_life_s": 600.0})
    before = stage.traces()
    assert stage.decide(dry(fresh)) == [[("send", "above_threshold")]]
    assert stage.traces() == before
    assert stage.world.items.get(["fresh"]) == [None]
    assert stage.decide(urgent("fresh", ["ann"])) == [[("ineligible", "unknown_item")]]
    told = stage.world.tick(MONDAY_NOON)
    assert not any("fresh" in item for item in told["ann"])


def test_a_known_item_is_rehearsed_as_it_is_known(stage: Stage) -> None:
    again = replace(urgent("live", ["ann"]), item={"item_id": "live", "title": "another", "expires_at": NOW - 1})
    assert stage.decide(dry(again)) == [[("send", "above_threshold")]]
    assert stage.world.items.get(["live"]) == [LIVE]


def test_a_dry_run_that_comes_with_others_takes_no_place_from_them(stage: Stage) -> None:
    """The user's two units are the real requests', and the rehearsal is told that nothing is left."""
    stage.world.items.put([LIVE | {"item_id": name} for name in ("b", "c")])
    rehearsed, *real = stage.decide(dry(urgent("c", ["ann"])), urgent("live", ["ann"]), urgent("b", ["ann"], decision_id="d2"))
    assert rehearsed == [("over_budget", "budget_spent")]
    assert real == [[("send", "above_threshold")], [("send", "above_threshold")]]


def test_a_critical_dry_run_says_where_the_quota_ends_and_spends_none_of_it(stage: Stage) -> None:
    request = replace(urgent("live", USERS, critical=True), critical_quota=3)
    (found,) = stage.decide(dry(request))
    assert sorted(found) == [("ineligible", "critical_quota"), *[("send", "critical")] * 3]
    assert stage.pipeline.critical_quota.spent("key", NOW) == 0 < PER_DAY


def test_a_window_is_rehearsed_as_it_is_then_decided(stage: Stage) -> None:
    stage.world.ranker.values = {"x": 0.9, "y": 0.8, "live": 0.7, "slow": 0.1}
    lane = replace(stage.world.scheduled(), pipeline=stage.pipeline)
    before = stage.traces()
    decided = lane.rehearse(USERS, MONDAY_NOON)
    assert stage.traces() == before
    assert decided.dry
    logged = stage.world.logged()
    assert logged["dry"].all()
    rehearsed = {
        user: dict(zip(rows["item_id"], zip(rows["disposition"], rows["reason"], strict=True), strict=True))
        for user, rows in logged.groupby("user_id")
    }
    assert stage.world.tick(MONDAY_NOON) == rehearsed
    assert {"send", "over_budget"} <= {outcome[0] for outcome in rehearsed["ann"].values()}


def test_dry_rows_are_marked_in_the_log_and_filed_apart_from_real_ones(redis_client: Redis, tmp_path: Path) -> None:
    stage = Stage(furnished(World.in_store(redis_client)))
    stage.world.items.put([LIVE])
    history = History(str(tmp_path))
    log = DecisionLog(RedisDecisionStream(redis_client, META.keys), history, RedisUserKeys(redis_client, META.keys), META.shards)
    stage.decide(dry(urgent("live", USERS)))
    stage.decide(urgent("live", ["ann"]))

    def marks() -> dict[str, set[bool]]:
        return {str(name): set(rows["dry"]) for name, rows in log.find(NOW, user_id="ann").groupby("decision_id")}

    assert marks() == {"dry-d1": {True}, "d1": {False}}
    for shard in range(META.shards):
        log.drain(shard)
    assert marks() == {"dry-d1": {True}, "d1": {False}}
    assert set(log.find(NOW, decision_id="dry-d1")["grant_id"]) == {""}
    assert set(history.read(TABLE, NOW, NOW)["decision_id"]) == {"d1"}
    assert len(history.read(DRY_TABLE, NOW, NOW)) == len(USERS)
