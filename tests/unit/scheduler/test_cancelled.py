"""An item that is deleted is not proposed again, whatever was held or planned of it."""

from __future__ import annotations

import pytest
from redis import Redis

from scheduler.decide import DecideConfig
from scheduler.digests import DigestRule
from scheduler.pipeline import PipelineConfig
from scheduler.planning import PlanConfig
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished, urgent

DAY_S = 86400.0
CONFIGS = {
    "held": PipelineConfig(),
    "awaits a digest": PipelineConfig(digests=(DigestRule("kind:post"),)),
    "planned": PipelineConfig(weekly={"in_app": 2}, decide=DecideConfig(top_n=1), plan=PlanConfig(windows=1), threshold={"in_app": 0.2}),
}


@pytest.mark.parametrize("why", CONFIGS)
def test_what_is_held_of_a_deleted_item_is_not_sent(redis_client: Redis, why: str) -> None:
    world = furnished(World.in_store(redis_client))
    world.config = CONFIGS[why]
    profiles = world.profiles.get(["ann"]).copy()
    profiles["windows"][:, 1] = 48 + 96
    world.profiles.put(["ann"], profiles)
    created = {"created_at": MONDAY_NOON - 7200, "kind": "post"}
    world.items.put(
        [{**created, "item_id": "a", "half_life_s": 30 * DAY_S}, {**created, "item_id": "ending", "expires_at": MONDAY_NOON + 3600}]
    )
    world.ranker.values = {"a": 0.9, "ending": 0.8, "x": 0.1, "y": 0.1}
    if why == "planned":
        held_at = world.tick(MONDAY_NOON)["ann"]
        window = MONDAY_NOON + DAY_S
        assert (held_at["a"][0], held_at["ending"][0]) == ("hold", "send")
    else:
        window = MONDAY_NOON
        (held,) = world.urgent().decide([urgent("a", ["ann"])], MONDAY_NOON - 3600)
        assert held.disposition == ["hold"]
    assert "a" in {row.item_id for row in world.held.read(["ann"])[0]}
    world.items.delete(["a"])
    assert "a" not in world.tick(window)["ann"]
    assert ("ann", "ending", "in_app") in world.sent()
    assert ("ann", "a", "in_app") not in world.sent()
