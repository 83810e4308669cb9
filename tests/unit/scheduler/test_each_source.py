"""Each source can be switched, limited and measured alone, in the lane that serves."""

from __future__ import annotations

import numpy as np
import pytest

from lake.clock import HeldClock
from lake.follows import Followed
from scheduler.held import Held, MemoryHeldStore
from scheduler.lease import shard_lease
from scheduler.report import LaneReport
from scheduler.sources.registry import MAKERS, Needs, SourceRule, open_sources
from scheduler.windows import SLOT_S
from tests.unit.scheduler.test_more_sources import Counts
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, USERS, World, furnished

ITEMS = [f"item {number}" for number in range(8)]


@pytest.fixture
def world() -> World:
    """Every source has something for everybody: eight hot items of here that all of them follow, of which five are held for each."""
    made = furnished(World.in_memory())
    made.items.delete(["x", "y"])
    made.items.put(
        [{"item_id": name, "created_at": MONDAY_NOON - 600, "topics": ["tea"], "latitude": 52.5, "longitude": 13.4} for name in ITEMS]
    )
    rows = made.profiles.get(USERS).copy()
    rows["place"] = (52.5, 13.4)
    made.profiles.put(USERS, rows)
    made.follows.put(USERS, [Followed(("tea",))] * len(USERS))
    held = {(name, 0): Held(name, 0, 0.1 * place, np.inf) for place, name in enumerate(ITEMS[:5])}
    assert isinstance(made.held, MemoryHeldStore)
    made.held.rows = {user: dict(held) for user in USERS}
    return made


def run(world: World, **rules: SourceRule) -> LaneReport:
    """Decide everybody's window with the sources that rules leave."""
    hot = Counts(dict.fromkeys(ITEMS, 1000.0))
    needs = Needs(world.held, world.follows, world.ledger, hot, hot, lambda users, _: np.full(len(users), 30 * 86400.0))
    lane, report = world.scheduled(), LaneReport()
    lane.sources = open_sources(needs, rules)
    for shard in range(2):
        fence = world.leases.acquire(shard_lease(shard), "me", MONDAY_NOON, 60.0) or 0
        report.add(lane.run(shard, int(MONDAY_NOON // SLOT_S), fence, HeldClock(MONDAY_NOON)))
    return report


def alone(name: str, **settings: float) -> dict[str, SourceRule]:
    return {other: SourceRule(on=False) for other in MAKERS if other != name} | {name: SourceRule(True, settings)}


@pytest.mark.parametrize("name", MAKERS)
def test_a_source_alone_is_measured_in_the_report_and_in_the_log(world: World, name: str) -> None:
    report = run(world, **alone(name))
    [(measured, (proposed, sent))] = report.by_source.items()
    each = {"held": 5, "dormant": 1}.get(name, len(ITEMS))
    assert (measured, proposed) == (name, each * len(USERS))
    assert sent == min(each, 2) * len(USERS) == report.sends
    assert set(world.logged()["source"]) == {name}


@pytest.mark.parametrize("name", MAKERS)
def test_a_source_switched_off_proposes_nothing_and_the_others_go_on(world: World, name: str) -> None:
    report = run(world, **{other: SourceRule(on=other != name) for other in MAKERS})
    assert name not in report.by_source
    assert report.sends == 2 * len(USERS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_limited_source_proposes_no_more_than_that_to_anyone(world: World, name: str) -> None:
    assert run(world, **alone(name, limit=3)).by_source == {name: (3 * len(USERS), 2 * len(USERS))}


def test_of_what_is_held_a_limit_leaves_what_was_worth_most(world: World) -> None:
    run(world, **alone("held", limit=3))
    assert set(world.logged()["item_id"]) == set(ITEMS[2:5])


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_source_does_not_have_cannot_be_set(world: World, name: str) -> None:
    with pytest.raises(ValueError, match=r"no 'colour' to set; it has .*limit"):
        run(world, **alone(name, colour=3))
