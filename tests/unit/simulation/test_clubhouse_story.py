"""Filters by two labels, lived through: what of the published story comes out in worlds with known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.clubhouse import LEVEL, PEOPLE, Story, StoryConfig, findings, tell
from simulation.crowd import Crowd
from simulation.world import World
from simulation.world_parameters import CrowdParameters, ResponseParameters

SHORT = StoryConfig(people=replace(PEOPLE, users=300), learn_days=14, hold_days=5, live_days=21)
SMALL = replace(PEOPLE, users=60, items=300, weeks=3)


def everything(user: np.ndarray, _item: np.ndarray, _number: np.ndarray, _now: float) -> np.ndarray:
    return np.ones(len(user), bool)


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    """Two worlds that are none of the twenty of `tidings simulate clubhouse`."""
    return [tell(seed, SHORT) for seed in (31, 32)]


def test_ninety_percent_recall_lets_a_plain_classifier_cut_about_two_sends_in_five(stories: list[Story]) -> None:
    for story in stories:
        assert story.filters["plain"].recall == pytest.approx(0.9, abs=0.01)
        assert 0.3 < story.filters["plain"].cut < 0.55
        assert story.filters["discounted"].cut == pytest.approx(0.5, abs=0.01)


def test_the_plain_filter_keeps_joins_and_lowers_engagement_and_the_discounted_one_cuts_more_and_does_not(stories: list[Story]) -> None:
    """As Clubhouse published; docs/labels.md has the figures of twenty larger worlds, and what they rest on."""
    found = findings(stories)["filters"]
    plain, discounted = found["plain"], found["discounted"]
    assert discounted["cut"] > plain["cut"] + 0.05
    assert abs(plain["joins"] - 1) < LEVEL
    assert abs(discounted["joins"] - 1) < LEVEL
    assert plain["active"] < 0.985
    assert discounted["active"] > 0.99
    for story in stories:
        assert story.beside("plain")["active"] < min(1.0, story.beside("discounted")["active"])


def test_the_plain_filter_takes_the_quiet_what_brought_them(stories: list[Story]) -> None:
    found = findings(stories)["filters"]
    assert found["plain"]["quiet_told"] < found["discounted"]["quiet_told"]
    assert found["plain"]["quiet_active"] < min(0.95, found["discounted"]["quiet_active"])


def test_where_nothing_is_told_twice_the_discount_saves_no_engagement() -> None:
    story = tell(31, replace(SHORT, crowd=CrowdParameters(again=0.0)))
    assert story.beside("discounted")["active"] < 0.995


def test_one_seed_is_one_story_and_every_life_begins_alike() -> None:
    config = replace(SHORT, people=SMALL, learn_days=6, hold_days=2, live_days=3)
    days: list[tuple[str, int]] = []
    one, again = tell(3, config, lambda what, day: days.append((what, day))), tell(3, config)
    assert one.beside("plain") == again.beside("plain")
    assert days == [(what, day + 1) for what, many in (("learning", 6), ("all", 3), ("plain", 3), ("discounted", 3)) for day in range(many)]


def test_nobody_is_told_the_same_twice_nor_what_they_have_joined_nor_after_they_left() -> None:
    crowd = Crowd.of(World.of(SMALL, 1), ResponseParameters(opt_out=0.5, opt_out_most=0.5), CrowdParameters(), 1)
    told: list[tuple[int, int, int]] = []
    for _ in range(8):
        joined, before, gone = crowd.joined.copy(), crowd.told.copy(), crowd.readers.gone[:, 0].copy()
        day = crowd.play_day(everything)
        assert not joined[day.user, day.item].any()
        assert not before[day.user, day.item].any()
        assert not gone[day.user].any()
        told += zip(day.user.tolist(), day.item.tolist(), day.number.tolist(), strict=True)
    assert len(set(told)) == len(told) > 500
    assert crowd.readers.gone.any()


def test_those_who_come_often_have_more_on_offer_and_join_without_being_told() -> None:
    crowd = Crowd.of(World.of(replace(SMALL, users=200), 1), ResponseParameters(), CrowdParameters(attention=0.01), 1)
    often = crowd.readers.visits_per_day > np.median(crowd.readers.visits_per_day)
    assert crowd.usual[often].min() >= crowd.usual[~often].max()
    days = [crowd.play_day(everything) for _ in range(6)]
    assert sum(day.caused for day in days) < 0.1 * sum(day.joins for day in days)
    joins = crowd.joined.sum(axis=1)
    assert joins[often].mean() > 4 * joins[~often].mean()


def test_a_room_joined_counts_for_each_of_its_notifications_and_a_visit_has_time_for_few() -> None:
    crowd = Crowd.of(World.of(SMALL, 1), ResponseParameters(), CrowdParameters(again=0.6, rooms_a_visit=0, attention=0.9), 1)
    day = crowd.play_day(everything)
    assert day.number.max() > 1
    assert day.joins == day.caused
    pair = day.user * len(crowd.world.things.ids) + day.item
    assert all(len(set(day.joined[pair == each].tolist())) == 1 for each in pair[day.number > 0].tolist())


def test_a_branched_life_leaves_the_one_it_came_from_alone() -> None:
    crowd = Crowd.of(World.of(SMALL, 1), ResponseParameters(), CrowdParameters(), 1)
    other = crowd.branched()
    other.play_day(everything)
    assert crowd.day == 0
    assert not crowd.told.any()
    assert other.world is crowd.world
