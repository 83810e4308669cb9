"""Two lanes beside one: the same volume, nothing told before it is there or twice, and both together are worth most."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.two_lanes import LANES, Audience, Lanes, LanesWorld, at_volume, begins, over_worlds

CONFIG = LanesWorld(users=60, weeks=2, seed=5)


@pytest.fixture(scope="module")
def audience() -> Audience:
    return Audience.of(CONFIG)


@pytest.mark.parametrize("lanes", LANES)
def test_each_way_tells_as_much_and_nothing_before_it_is_there(audience: Audience, lanes: Lanes) -> None:
    made = at_volume(audience, lanes)
    sent = np.isfinite(made.when)
    wanted = CONFIG.per_week * CONFIG.users * CONFIG.weeks
    assert 0.97 * wanted <= sent.sum() <= wanted
    assert (made.when[sent] >= audience.created_at[sent]).all()
    assert (made.urgent & sent).any() == (lanes != "scheduled")
    assert (~made.urgent & sent).any() == (lanes != "urgent")


def test_nothing_is_told_in_the_weeks_that_hours_are_learned_from(audience: Audience) -> None:
    assert audience.created_at.min() >= begins(audience.world)
    assert (audience.windows >= begins(audience.world)).all()
    assert (audience.profiles["hours"].max(axis=1) == 255).all()


def test_no_window_tells_more_than_its_most(audience: Audience) -> None:
    made = at_volume(audience, "scheduled")
    sent = np.isfinite(made.when)
    _, count = np.unique(np.stack([audience.user[sent], made.when[sent]]), axis=1, return_counts=True)
    assert count.max() <= CONFIG.top_n


def test_both_lanes_together_are_worth_more_than_either_and_more_than_blind_to_the_hour_in_each_of_three_worlds() -> None:
    found = over_worlds(CONFIG, 3)
    assert found["both_wins"] == {"urgent": 3, "scheduled": 3, "both_by_age": 3}
    assert found["least_beside_best_single"] > 1.0
    assert [each["seed"] for each in found["worlds"]] == [5, 6, 7]
    volumes = [row["sends"] for row in found["ways"].values()]
    assert min(volumes) >= 0.97 * max(volumes)
