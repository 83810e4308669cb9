"""What is held beyond what is kept for a user: the least valuable goes, and the decision log says so."""

from __future__ import annotations

import numpy as np
import pytest
from redis import Redis

from scheduler.held import MAX_HELD
from scheduler.waiting import hours_of
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished, urgent

MORNING = MONDAY_NOON - 28_800


@pytest.fixture(params=["memory", "store"])
def full(request: pytest.FixtureRequest) -> World:
    """Ann and Bob look at noon; for each of them as many items wait for that as are kept, the first of them worth least."""
    world = furnished(World.in_memory() if request.param == "memory" else World.in_store(store(request)))
    week = np.ones((7, 24), np.float32)
    week[:, 12] = 16
    profiles = world.profiles.get(["ann", "bob"]).copy()
    profiles["hours"] = hours_of(np.tile(week.ravel(), (2, 1)))
    world.profiles.put(["ann", "bob"], profiles)
    world.thresholds.write({"in_app": 0.1})
    names = [f"w{number}" for number in range(MAX_HELD)]
    hold(world, {name: 0.5 + 0.005 * place for place, name in enumerate(names)})
    return world


def store(request: pytest.FixtureRequest) -> Redis:
    client: Redis = request.getfixturevalue("redis_client")
    return client


def hold(
    world: World, values: dict[str, float], users: tuple[str, ...] = ("ann", "bob"), decision_id: str = "first"
) -> list[tuple[str, str]]:
    """Post items of these values in the morning, all in one decision; return what became of the first user's row of each."""
    world.items.put([{"item_id": name, "created_at": MORNING - 60, "half_life_s": 90 * 86400.0} for name in values])
    world.ranker.values |= values
    results = world.urgent().decide([urgent(name, list(users), decision_id=decision_id) for name in values], MORNING)
    return [(result.disposition[0], result.reason[0]) for result in results]


def test_the_least_valuable_row_gives_way_and_ends_in_the_log_under_the_decision_that_took_its_place(full: World) -> None:
    before = len(full.logged())
    assert hold(full, {"better": 0.9}, ("ann",), "second") == [("hold", "better_next_window")]
    held = {row.item_id for row in full.held.read(["ann"])[0]}
    assert held == {"better", *(f"w{number}" for number in range(1, MAX_HELD))}
    new = full.logged()
    gone = new[new["reason"] == "held_evicted"]
    assert len(new) == before + 2
    assert gone[["user_id", "item_id", "channel", "disposition", "source", "decision_id"]].to_numpy().tolist() == [
        ["ann", "w0", "in_app", "below_threshold", "held", "second"]
    ]
    assert gone["value"].tolist() == pytest.approx([0.5])
    assert gone["propensity"].tolist() == [0.0]
    assert len(full.held.read(["bob"])[0]) == MAX_HELD


def test_a_new_row_worth_less_than_all_that_wait_gives_way_itself_and_is_logged_once(full: World) -> None:
    assert hold(full, {"worse": 0.3}, ("ann",), "second") == [("below_threshold", "held_evicted")]
    log = full.logged()
    assert log.loc[log["reason"] == "held_evicted", "item_id"].tolist() == ["worse"]
    assert {row.item_id for row in full.held.read(["ann"])[0]} == {f"w{number}" for number in range(MAX_HELD)}


def test_every_row_that_was_ever_held_is_held_still_was_offered_again_or_gave_way_in_the_log(full: World) -> None:
    """Of many more rows than are kept none is lost; those that are kept are the best."""
    values = {f"v{number}": value for number, value in enumerate(np.random.default_rng(5).uniform(0.4, 0.9, 40).round(4).tolist())}
    for start in range(0, 40, 8):
        hold(full, dict(list(values.items())[start : start + 8]), decision_id=f"more {start}")
    everything = {f"w{number}": 0.5 + 0.005 * number for number in range(MAX_HELD)} | values
    log = full.logged()
    for user in ("ann", "bob"):
        kept = {row.item_id for row in full.held.read([user])[0]}
        gone = log.loc[(log["user_id"] == user) & (log["reason"] == "held_evicted"), "item_id"].tolist()
        assert sorted([*kept, *gone]) == sorted(everything)
        assert min(everything[name] for name in kept) >= max(everything[name] for name in gone)
    offered = full.tick(MONDAY_NOON)
    assert set(offered["ann"]) >= {row for row in everything if row not in set(log.loc[log["reason"] == "held_evicted", "item_id"])}
