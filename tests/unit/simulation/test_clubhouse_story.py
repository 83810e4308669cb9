"""Filters by two labels, lived through: what of the published story comes out in worlds with known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.clubhouse import Story, StoryConfig, findings, tell
from simulation.crowd import Crowd
from simulation.world import World
from simulation.world_parameters import ResponseParameters, WorldParameters

SHORT = StoryConfig(learn_days=14, hold_days=5, live_days=14)
SMALL = WorldParameters(users=60, items=300, weeks=3)


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [tell(seed, SHORT) for seed in (1, 2)]


def test_ninety_percent_recall_lets_a_plain_classifier_cut_about_two_sends_in_five(stories: list[Story]) -> None:
    for story in stories:
        assert story.filters["plain"].recall == pytest.approx(0.9, abs=0.01)
        assert 0.3 < story.filters["plain"].cut < 0.55
        assert story.filters["discounted"].cut == pytest.approx(0.5, abs=0.01)


def test_both_filters_cut_sends_that_are_made_and_lose_fewer_readers(stories: list[Story]) -> None:
    found = findings(stories)
    for row in found["filters"].values():
        assert row["cut"] > 0.25
        assert row["opt_outs"] < 0.7
    assert found["filters"]["discounted"]["cut"] > found["filters"]["plain"]["cut"]


def test_engagement_does_not_fall_with_either_filter_where_sends_in_vain_tire(stories: list[Story]) -> None:
    """Unlike what was published of the plain one: docs/labels.md tells so, with the figures of all twenty worlds."""
    found = findings(stories)["filters"]
    assert found["discounted"]["active"] > 0.99
    assert found["plain"]["active"] > 0.99


def test_cut_joins_are_not_made_up_for_where_a_send_in_vain_tires_no_more_than_another() -> None:
    story = tell(1, replace(SHORT, response=ResponseParameters(tiring=1.0)))
    assert story.beside("discounted")["joins"] < story.beside("plain")["joins"] < 1.0


def test_one_seed_is_one_story_and_every_life_begins_alike() -> None:
    config = replace(SHORT, people=SMALL, learn_days=6, hold_days=2, live_days=3)
    days: list[tuple[str, int]] = []
    one, again = tell(3, config, lambda what, day: days.append((what, day))), tell(3, config)
    assert one.lives == again.lives
    assert one.lives != tell(4, config).lives
    assert days == [(what, day + 1) for what, many in (("learning", 6), ("all", 3), ("plain", 3), ("discounted", 3)) for day in range(many)]


def test_nobody_is_told_the_same_twice_nor_what_they_have_joined_nor_after_they_left() -> None:
    crowd = Crowd.of(World.of(SMALL, 1), ResponseParameters(opt_out=0.2, opt_out_most=0.5), 12, 1)
    pairs: list[tuple[int, int]] = []
    for _ in range(8):
        joined, gone = crowd.joined.copy(), crowd.readers.gone[:, 0].copy()
        day = crowd.play_day(lambda user, _item, _now: np.ones(len(user), bool))
        assert not joined[day.user, day.item].any()
        assert not gone[day.user].any()
        pairs += zip(day.user.tolist(), day.item.tolist(), strict=True)
    assert len(set(pairs)) == len(pairs) > 500
    assert crowd.readers.gone.any()


def test_a_branched_life_leaves_the_one_it_came_from_alone() -> None:
    crowd = Crowd.of(World.of(SMALL, 1), ResponseParameters(), 12, 1)
    other = crowd.branched()
    other.play_day(lambda user, _item, _now: np.ones(len(user), bool))
    assert crowd.day == 0
    assert not crowd.told.any()
    assert other.world is crowd.world
