"""Training rows are what could have been decided at the time, and weigh what they stand for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranking.examples import Candidates, ExampleRule, Rows, draw, moments, thin
from ranking.labels import DAY_S
from ranking.past import Past
from tests.unit.ranking.worlds import DAYS, START, world

UNTIL = (START + pd.Timedelta(days=DAYS)).timestamp()
RULE = ExampleRule()


def test_candidates_are_young_items_their_users_neither_made_nor_touched_and_labels_come_within_the_window() -> None:
    dataset = world(0, topics=False)
    past, at = Past.of(dataset), UNTIL - 20 * DAY_S
    rows = Candidates(past, RULE).alive(at)
    seen = pd.DataFrame({"user": past.user, "item": past.item, "at": past.at})
    first = seen.groupby(["user", "item"])["at"].min()
    engaged_at = first.reindex(pd.MultiIndex.from_arrays([rows.user, rows.item])).to_numpy()
    age_s = at - past.items.created_at[rows.item]
    assert ((age_s > 0) & (age_s <= 7 * DAY_S)).all()
    assert not (engaged_at < at).any()
    assert np.array_equal(rows.label, (engaged_at >= at) & (engaged_at < at + 7 * DAY_S))
    assert not (past.items.author[rows.item] == past.user_key[rows.user]).any()
    active = set(past.user[(past.at >= at - 28 * DAY_S) & (past.at < at)].tolist())
    assert set(rows.user.tolist()) <= active


def test_where_items_have_topics_their_audience_is_who_was_active_on_one_of_them() -> None:
    past = Past.of(world(0))
    topics = past.items.topics
    day = np.floor((UNTIL - 20 * DAY_S) / DAY_S) * DAY_S
    rows = Candidates(past, RULE).born(day)
    assert len(rows)
    for user, item in set(zip(rows.user.tolist(), rows.item.tolist(), strict=True)):
        touched = past.item[(past.user == user) & (past.at < day)]
        shared = set(topics[touched].ravel().tolist()) & set(topics[item].tolist()) - {0}
        assert shared or not topics[item].any()


def test_no_row_needs_to_know_what_came_at_or_after_the_end() -> None:
    past = Past.of(world(0))
    rows = Rows.concat(list(draw(past, UNTIL, RULE)))
    assert rows.at.max() + RULE.label.window_s <= UNTIL
    assert len(moments(past, UNTIL, RULE)) > 20


def test_thinning_keeps_every_engagement_and_what_the_rest_stands_for() -> None:
    past = Past.of(world(3, users=60, events=4000, topics=False))
    rows = Candidates(past, RULE).alive(UNTIL - 20 * DAY_S)
    drawn = [thin(rows, 300, 4.0, np.random.default_rng(seed)) for seed in range(40)]
    assert all(part.label.sum() == rows.label.sum() for part in drawn)
    assert np.mean([len(part) for part in drawn]) < len(rows)
    assert abs(np.mean([part.weight.sum() for part in drawn]) / len(rows) - 1) < 0.03


def test_the_same_seed_draws_the_same_rows() -> None:
    past, rule = Past.of(world(0)), ExampleRule(rows=500)
    first, second = (Rows.concat(list(draw(past, UNTIL, rule, seed=4))) for _ in range(2))
    assert np.array_equal(first.user, second.user)
    assert np.array_equal(first.weight, second.weight)
