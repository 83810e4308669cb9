"""What a plan promised to a later window is sent there, unless what came since is clearly better: in the lane, from window to window."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.decide import DecideConfig
from scheduler.pipeline import PipelineConfig
from scheduler.planning import PlanConfig
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, USERS, World, furnished

DAY_S = 86_400
LASTS = {"half_life_s": 90 * DAY_S}


@pytest.fixture
def world() -> World:
    """A window of one place at noon of each day, planned with the next two; two posts that are worth nothing."""
    made = furnished(World.in_memory())
    profiles = made.profiles.get(USERS).copy()
    profiles["windows"][:, :7] = 48 + 96 * np.arange(7)
    made.profiles.put(USERS, profiles)
    made.ranker.values = {"x": 0.0, "y": 0.0}
    plan, threshold = PlanConfig(windows=2), {"in_app": 0.2}
    made.config = PipelineConfig(weekly={"in_app": 2}, decide=DecideConfig(top_n=1), plan=plan, threshold=threshold)
    return made


def put(world: World, day: int, **values: float) -> None:
    """Let lasting items of these values appear right before a day's window."""
    at = MONDAY_NOON + day * DAY_S - 60
    world.items.put([{"item_id": name, "created_at": at, **LASTS} for name in values])
    world.ranker.values |= values


@pytest.mark.parametrize(("newcomer", "sent"), [(0.92, "promised"), (0.98, "newcomer")])
def test_the_last_unit_goes_to_what_was_promised_unless_a_newcomer_is_clearly_better(world: World, newcomer: float, sent: str) -> None:
    put(world, 0, promised=0.9)
    world.items.put([{"item_id": "ending", "created_at": MONDAY_NOON - 60, "expires_at": MONDAY_NOON + 3600}])
    world.ranker.values["ending"] = 0.8
    assert world.tick(MONDAY_NOON)["ann"]["promised"] == ("hold", "better_next_window")
    put(world, 1, newcomer=newcomer)
    told = world.tick(MONDAY_NOON + DAY_S)["ann"]
    assert [name for name, (disposition, _) in told.items() if disposition == "send"] == [sent]


def test_newcomers_that_are_hardly_better_do_not_put_a_promise_off_day_after_day(world: World) -> None:
    """What was promised on Monday is out on Tuesday, and each day one more."""
    world.config = PipelineConfig(
        weekly={"in_app": 9}, decide=world.config.decide, plan=world.config.plan, threshold=world.config.threshold
    )
    put(world, 0, first=0.8, second=0.79)
    sent = []
    for day in range(6):
        told = world.tick(MONDAY_NOON + day * DAY_S)["ann"]
        sent += [name for name, (disposition, _) in told.items() if disposition == "send"]
        put(world, day + 1, **{f"new {day + 1}": 0.81 + 0.002 * day})
    assert sent[:2] == ["first", "second"]
    assert len(sent) == len(set(sent)) == 6


def test_a_promise_that_fell_under_its_threshold_is_not_kept(world: World) -> None:
    put(world, 0, promised=0.9)
    world.items.put([{"item_id": "ending", "created_at": MONDAY_NOON - 60, "expires_at": MONDAY_NOON + 3600}])
    world.ranker.values["ending"] = 0.8
    assert world.tick(MONDAY_NOON)["ann"]["promised"][0] == "hold"
    world.ranker.values["promised"] = 0.195
    assert world.tick(MONDAY_NOON + DAY_S)["ann"]["promised"] == ("below_threshold", "below_threshold")
