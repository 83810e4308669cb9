"""What is told together: who leads, who rides along, and how it is decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budgets.pacing import PacingConfig
from lake.decisions import Candidates
from lake.items import Items
from scheduler.digests import DigestRule, keyed, together
from scheduler.pipeline import PipelineConfig
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished, urgent

GARDEN = [
    {
        "item_id": f"g{n}",
        "created_at": MONDAY_NOON - 7200 - 60 * n,
        "topics": ["gardening", "diy"],
        "kind": "post",
        "expires_at": MONDAY_NOON + 60 * n,
    }
    for n in range(1, 5)
]
RULE = DigestRule("topic:*", size=3)
PRESSING = [{**item, "half_life_s": 600.0} for item in GARDEN]


@pytest.fixture(params=["memory", "store"])
def world(request: pytest.FixtureRequest) -> World:
    """Two plain items and four about gardening, of which a digest takes three; gardening is worth more."""
    made = furnished(World.in_memory() if request.param == "memory" else World.in_store(request.getfixturevalue("redis_client")))
    made.items.put([{**item, "expires_at": MONDAY_NOON + 3600 * n} for n, item in enumerate(GARDEN, 30)])
    made.ranker.values = {"g1": 0.9, "g2": 0.8, "g3": 0.7, "g4": 0.6, "x": 0.5, "y": 0.1}
    made.config = PipelineConfig(weekly={"in_app": 2, "email": 1}, threshold={"in_app": 0.2}, digests=(RULE,))
    return made


def test_items_of_one_topic_cost_one_unit_and_leave_places_for_others(world: World) -> None:
    found = world.tick(MONDAY_NOON)["ann"]
    assert found["g1"] == ("send", "above_threshold")
    assert found["g2"] == found["g3"] == ("digest", "in_digest")
    assert found["g4"] == ("over_budget", "digest_full")
    assert found["x"] == ("send", "above_threshold")
    digest, alone = [message for message in world.messages() if message.user_id == "ann"]
    assert (digest.item_ids, alone.item_ids) == (("g1", "g2", "g3"), ("x",))
    assert (digest.deliver_by, alone.deliver_by) == (MONDAY_NOON + 86400, MONDAY_NOON + 86400)
    logged = world.logged().query("user_id == 'ann' and item_id in ['g2', 'g3']")
    assert logged["grant_id"].tolist() == [grant for _, grant in digest.digest]


def test_a_digest_lasts_as_long_as_the_last_of_what_it_tells(world: World) -> None:
    world.items.put([{**GARDEN[0], "expires_at": MONDAY_NOON + 60}])
    world.tick(MONDAY_NOON)
    assert {message.deliver_by for message in world.messages() if message.digest} == {MONDAY_NOON + 86400}


def test_what_is_not_worth_telling_alone_is_not_told_with_others(world: World) -> None:
    world.ranker.values |= {"g2": 0.1, "g3": 0.1, "g4": 0.1}
    assert world.tick(MONDAY_NOON)["ann"]["g2"] == ("below_threshold", "below_threshold")
    assert all(not message.digest for message in world.messages())


def test_an_urgent_item_waits_for_the_others_in_its_window_and_is_told_with_them(world: World) -> None:
    now = MONDAY_NOON - 3600
    world.ranker.values["g1"] = 0.95
    (held,) = world.urgent().decide([urgent("g1", ["ann"])], now)
    assert (held.disposition, held.reason) == (["hold"], ["awaits_digest"])
    assert world.tick(MONDAY_NOON)["ann"]["g1"] == ("send", "above_threshold")
    assert next(message.item_ids for message in world.messages() if message.user_id == "ann") == ("g1", "g2", "g3")


def test_the_urgent_item_that_fills_a_digest_goes_at_once_and_takes_along_what_waits(world: World) -> None:
    """The two that came before have waited for it; the fourth waits for the next."""
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put(PRESSING)
    for n, name in enumerate(("g1", "g2")):
        (held,) = lane.decide([urgent(name, ["ann", "bob"], decision_id=f"d{n}")], now + n)
        assert held.reason == ["awaits_digest"] * 2
    (filled,) = lane.decide([urgent("g3", ["ann"], decision_id="d2")], now + 2)
    assert (filled.user_id, filled.disposition, filled.reason) == (["ann"], ["digest"], ["in_digest"])
    (message,) = world.messages()
    assert (message.user_id, message.item_ids) == ("ann", ("g1", "g2", "g3"))
    assert world.held.read(["ann"]) == [[]]
    assert {row.item_id for row in world.held.read(["bob"])[0]} == {"g1", "g2"}
    logged = world.logged().query("decision_id == 'd2'")
    assert dict(zip(logged["item_id"], zip(logged["source"], logged["disposition"], strict=True), strict=True)) == {
        "g1": ("held", "send"),
        "g2": ("held", "digest"),
        "g3": ("urgent", "digest"),
    }
    (fourth,) = lane.decide([urgent("g4", ["ann"], decision_id="d3")], now + 3)
    assert (fourth.disposition, fourth.reason) == (["hold"], ["awaits_digest"])
    assert len(world.messages()) == 1


def test_a_repeat_of_what_filled_a_digest_tells_nothing_twice(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put(PRESSING)
    for n, name in enumerate(("g1", "g2")):
        lane.decide([urgent(name, ["ann"], decision_id=f"d{n}")], now)
    first, again = (lane.decide([urgent("g3", ["ann"], decision_id="d2")], now + late)[0] for late in (1, 2))
    assert (first.disposition, again.disposition, again.reason) == (["digest"], ["duplicate"], ["already_sent"])
    assert len(world.messages()) == 1


def test_what_was_held_and_is_asked_for_again_beside_what_fills_its_digest_is_held_no_longer(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put(PRESSING)
    for name in ("g1", "g2"):
        lane.decide([urgent(name, ["ann", "bob"], decision_id=name)], now)
    again, filling = lane.decide([urgent("g1", ["ann"], decision_id="again"), urgent("g3", ["ann"], decision_id="g3")], now + 1)
    assert (again.disposition, filling.disposition) == (["send"], ["digest"])
    assert [message.item_ids for message in world.messages()] == [("g1", "g2", "g3")]
    assert world.held.read(["ann"]) == [[]]
    (still,) = lane.decide([urgent("g1", ["bob"], decision_id="alone")], now + 2)
    assert (still.disposition, still.reason) == (["hold"], ["awaits_digest"])
    assert {row.item_id for row in world.held.read(["bob"])[0]} == {"g1", "g2"}


def test_requests_decided_together_fill_a_digest_and_each_is_told_of_its_own(world: World) -> None:
    world.items.put(PRESSING)
    asked = [urgent(f"g{n}", ["ann", "bob"], decision_id=f"d{n}") for n in (1, 2, 3)]
    world.urgent().decide([urgent("g4", ["bob"], decision_id="before")], MONDAY_NOON - 7200)
    told = world.urgent().decide(asked, MONDAY_NOON - 3600)
    assert [result.user_id for result in told] == [["ann", "bob"]] * 3
    assert [result.disposition for result in told] == [["send"] * 2, ["digest"] * 2, ["digest"] * 2]
    assert {row.item_id for row in world.held.read(["bob"])[0]} == {"g4"}


def test_a_full_digest_still_waits_where_no_unit_is_left_or_it_is_night(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put(PRESSING)
    world.config = replace(world.config, weekly={"in_app": 0})
    for n in (1, 2, 3):
        (held,) = world.urgent().decide([urgent(f"g{n}", ["ann"], decision_id=f"d{n}")], now)
        assert held.disposition == ["hold"]
    world.config = replace(world.config, weekly={"in_app": 2})
    profiles = world.profiles.get(["bob"]).copy()
    profiles["quiet_from"], profiles["quiet_to"] = 10 * 60, 12 * 60
    world.profiles.put(["bob"], profiles)
    for n in (1, 2, 3):
        (held,) = lane.decide([urgent(f"g{n}", ["bob"], decision_id=f"n{n}")], now)
        assert held.disposition == ["hold"]
    assert world.messages() == []
    assert {user: len(rows) for user, rows in zip(("ann", "bob"), world.held.read(["ann", "bob"]), strict=True)} == {"ann": 3, "bob": 3}


def test_what_is_critical_fills_no_digest_and_takes_nothing_along(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put(PRESSING)
    for name in ("g1", "g2"):
        lane.decide([urgent(name, ["ann"], decision_id=name)], now)
    (sent,) = lane.decide([urgent("g3", ["ann"], critical=True, decision_id="g3")], now)
    assert (sent.disposition, sent.reason) == (["send"], ["critical"])
    assert [message.item_ids for message in world.messages()] == [("g3",)]
    assert {row.item_id for row in world.held.read(["ann"])[0]} == {"g1", "g2"}


def test_what_a_full_digest_has_no_room_or_no_place_for_waits_as_it_would_have_without_it(world: World) -> None:
    now = MONDAY_NOON - 3600
    world.items.put(PRESSING)
    world.config = replace(world.config, pacing=PacingConfig(day_cap=1))
    world.urgent().decide([urgent("x", ["ann"], decision_id="x")], now)
    world.items.put([{"item_id": "x2", "created_at": now, "half_life_s": 60.0}])
    world.ranker.values["x2"] = 0.95
    (sent,) = world.urgent().decide([urgent("x2", ["ann"], decision_id="x2")], now)
    assert sent.disposition == ["send"]
    for name in ("g1", "g2", "g3"):
        (held,) = world.urgent().decide([urgent(name, ["ann"], decision_id=name)], now)
        assert (held.disposition, held.reason) == (["hold"], ["awaits_digest"])
    world.config = replace(world.config, pacing=PacingConfig())
    (fourth,) = world.urgent().decide([urgent("g4", ["ann"], decision_id="g4")], now)
    assert (fourth.disposition, fourth.reason) == (["hold"], ["awaits_digest"])
    assert world.messages()[-1].item_ids == ("g1", "g2", "g3")
    assert {row.item_id for row in world.held.read(["ann"])[0]} >= {"g4"}


def test_news_of_what_is_held_stands_for_it(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put([*PRESSING, {**PRESSING[0], "item_id": "g1b", "entity_id": "g1", "version": 1}])
    world.ranker.values["g1b"] = 0.85
    for name in ("g1", "g2", "g1b"):
        (held,) = lane.decide([urgent(name, ["ann"], decision_id=name)], now)
        assert held.reason == ["awaits_digest"], name
    lane.decide([urgent("g1b", ["ann"], decision_id="f"), urgent("g3", ["ann"], decision_id="f3")], now)
    assert [message.item_ids for message in world.messages()] == [("g1b", "g2", "g3")]


def test_what_is_held_of_other_topics_and_channels_does_not_fill_a_digest(world: World) -> None:
    now, lane = MONDAY_NOON - 3600, world.urgent()
    world.items.put([*PRESSING, {"item_id": "j1", "created_at": now - 60, "topics": ["jazz"]}])
    world.ranker.values["j1"] = 0.9
    for name, channel in (("g1", "in_app"), ("g2", "email"), ("j1", "in_app"), ("g3", "in_app")):
        (held,) = lane.decide([urgent(name, ["ann"], channels=(channel,), decision_id=name)], now)
        assert held.disposition == ["hold"]
    assert world.messages() == []


@pytest.mark.parametrize("rule", [replace(RULE, wait_s=3599), replace(RULE, wait_s=0)])
def test_an_urgent_item_does_not_wait_longer_than_its_rule_allows(world: World, rule: DigestRule) -> None:
    world.config = replace(world.config, digests=(rule,))
    world.items.put([{**GARDEN[0], "half_life_s": 60.0}])
    (sent,) = world.urgent().decide([urgent("g1", ["ann"])], MONDAY_NOON - 3600)
    assert sent.disposition == ["send"]


def test_what_is_critical_goes_at_once_and_alone(world: World) -> None:
    (sent,) = world.urgent().decide([urgent("g1", ["ann"], critical=True)], MONDAY_NOON - 3600)
    assert sent.disposition == ["send"]
    assert world.messages()[0].item_ids == ("g1",)


def test_news_of_what_was_told_replaces_it_instead_of_joining_others(world: World) -> None:
    world.config = replace(world.config, digests=())
    world.urgent().decide([urgent("g1", ["ann"], critical=True)], MONDAY_NOON - 3600)
    world.config = replace(world.config, digests=(RULE,))
    world.items.put([{**GARDEN[0], "item_id": "g1b", "entity_id": "g1", "version": 1}])
    world.ranker.values["g1b"] = 0.95
    found = world.tick(MONDAY_NOON)["ann"]
    assert found["g1b"] == ("update", "newer_version")
    assert found["g2"] == ("send", "above_threshold")


def test_a_group_is_told_on_its_best_channel_only() -> None:
    rows = rows_of([(0, 0), (1, 0), (0, 1), (1, 1)])
    keys = keyed(rows, Items.from_rows(GARDEN[:2]), rows.item, [RULE])
    value, entity = np.array([0.9, 0.8, 0.5, 0.4], np.float32), np.array([1, 2, 1, 2], np.uint64)
    told = together(keys, rows.user, rows.channel, entity, value, np.ones(4, bool), [RULE])
    assert told.lead.tolist() == [0, 0, 2, 2]
    assert told.led.tolist() == [True, False, True, False]
    assert told.entity[0] == told.entity[2]


def test_of_one_entity_a_digest_tells_the_best() -> None:
    rows = rows_of([(0, 0), (1, 0), (2, 0)])
    keys = keyed(rows, Items.from_rows(GARDEN[:3]), rows.item, [RULE])
    value, entity = np.array([0.5, 0.8, 0.9], np.float32), np.array([1, 1, 2], np.uint64)
    told = together(keys, rows.user, rows.channel, entity, value, np.ones(3, bool), [RULE])
    assert (told.twin.tolist(), told.lead.tolist()) == ([True, False, False], [0, 2, 2])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["topic:gardening"], [0, 0, -1]),
        (["topic:diy", "topic:*"], [0, 0, 1]),
        (["kind:*"], [0, 0, -1]),
        (["kind:room"], [-1, -1, -1]),
        (["source:trending"], [-1, -1, -1]),
        (["source:new_posts", "kind:post"], [0, 0, 0]),
    ],
)
def test_the_first_rule_that_applies_counts(rules: list[str], expected: list[int]) -> None:
    rows = rows_of([(0, 0), (1, 0), (2, 0)])
    items = Items.from_rows([*GARDEN[:2], {"item_id": "z", "created_at": 0.0, "topics": ["jazz"]}])
    keys = keyed(rows, items, rows.item, [DigestRule(by) for by in rules])
    assert keys.rule.tolist() == expected
    assert ((keys.key != 0) == (keys.rule >= 0)).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"by": "author:eve"}, "by topic:NAME"), ({"by": "topic:"}, "topic:NAME"), ({"by": "kind:*", "size": 1}, "size of 2")],
)
def test_a_rule_that_makes_no_sense_says_what_would(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigestRule(**bad)  # type: ignore[arg-type]


def rows_of(pairs: list[tuple[int, int]]) -> Candidates:
    """Return rows of one user by (item, channel)."""
    n = len(pairs)
    columns = (np.zeros(n, np.int32), np.array([item for item, _ in pairs], np.int32), np.array([c for _, c in pairs], np.uint8))
    return Candidates(["ann"], ["g1", "g2", "g3"], *columns, np.zeros(n, np.uint8), ("new_posts",), np.zeros(n, np.int32))
