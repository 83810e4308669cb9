"""Training tells too little data from enough, and keeps later rows for what they are for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.errors import InputError
from ranking.examples import ExampleRule, Rows, draw
from ranking.labels import DAY_S, LabelRule
from ranking.offline_score import score_candidates
from ranking.past import Past
from ranking.train import Shape, train
from ranking.walk import Split
from tests.unit.ranking.models import bundle_of
from tests.unit.ranking.worlds import DAYS, START, world

UNTIL = START + pd.Timedelta(days=DAYS)
SMALL = ExampleRule(rows=4_000)


def test_later_rows_stop_and_still_later_ones_calibrate() -> None:
    at = np.arange(0, 300 * DAY_S, DAY_S / 2)
    split = Split.of(at)
    assert at[split.early].max() < at[split.middle].min()
    assert at[split.middle].max() < at[split.late].min()
    assert (split.early | split.middle | split.late).all()
    assert 14 * DAY_S <= at[-1] - at[split.late].min() + DAY_S <= 28 * DAY_S + DAY_S


def test_a_model_of_a_small_world_beats_chance_and_says_what_it_saw() -> None:
    trained = train(world(2, users=40, items=200, events=5000), UNTIL.timestamp(), rule=SMALL)
    found = trained.metrics["validation"]
    assert found["ndcg_at_5"] > found["baselines"]["random"]
    assert 0.5 < found["auc"] <= 1
    assert trained.window.until == UNTIL.timestamp()
    assert trained.metrics["positives"] > 100


def test_trials_take_the_best_shape_unless_the_default_ranks_the_latest_weeks_better_and_list_all_of_them() -> None:
    trained = train(world(2, users=40, items=200, events=5000), UNTIL.timestamp(), trials=2, rule=SMALL)
    tried = trained.metrics["trials"]
    assert len(tried) == 3
    assert tried[0]["max_depth"] == Shape().parameters["max_depth"]
    found = trained.metrics["validation"]
    searched = found.get("refused", {"name": trained.metrics["chosen"]})["name"]
    best = next(attempt for attempt in tried if attempt["name"] == searched)
    assert best["ndcg_at_5"] == max(attempt["ndcg_at_5"] for attempt in tried if not attempt["pruned"])
    other = found.get("refused", found.get("default", {"ndcg_at_5": 0.0}))
    assert found["ndcg_at_5"] >= other["ndcg_at_5"]


def test_training_twice_gives_the_same_model() -> None:
    first, second = (train(world(4), UNTIL.timestamp(), rule=SMALL) for _ in range(2))
    assert first.booster.save_raw() == second.booster.save_raw()


@pytest.mark.parametrize("days", [0, 5, 20])
def test_too_short_a_log_is_said_to_be_so(days: int) -> None:
    dataset = Dataset.of({name: frame for name, frame in world(0).tables.items() if len(frame)}, START + pd.Timedelta(days=days))
    with pytest.raises(InputError, match="engagements with young items to learn from"):
        train(dataset, (START + pd.Timedelta(days=days)).timestamp())


def test_candidates_nobody_knows_are_scored_in_their_place() -> None:
    dataset, at = world(0), UNTIL
    rows = pd.DataFrame(
        {"user_id": ["u1", "new", "u2", "u1"], "item_id": ["i9", "i9", "fresh", "fresh"], "channel": ["email", "x", "x", "x"]}
    )
    scored = score_candidates(bundle_of(), dataset, rows.assign(at=at))
    assert scored[["user_id", "item_id", "channel"]].equals(rows)
    assert np.isfinite(scored["score"]).all()
    assert scored["score"].equals(scored["probability"])
    known = score_candidates(bundle_of(), dataset, rows.assign(at=at).iloc[:1])
    assert known["score"].iloc[0] == scored["score"].iloc[0]


@pytest.mark.parametrize("source", ["sends", "both"])
def test_a_model_learns_from_sends_where_there_are_some(source: str) -> None:
    dataset = world(2, users=40, items=200, events=5000)
    trained = train(with_sends(dataset), UNTIL.timestamp(), rule=SMALL, source=source)
    assert trained.metrics["source"] == source
    assert trained.metrics["positives"] > 100
    assert trained.metrics["validation"]["auc"] > 0.55


def with_sends(dataset: Dataset) -> Dataset:
    """Return a history in which every item was told to everybody a day after its birth."""
    everybody = dataset.users[["user_id"]].merge(dataset.items[["item_id", "created_at"]], how="cross")
    sends = everybody.assign(channel="email", at=everybody["created_at"] + pd.Timedelta(hours=2)).drop(columns="created_at")
    return Dataset.of({name: frame for name, frame in (dataset.tables | {"sends": sends}).items() if len(frame)})


def test_without_sends_there_is_nothing_to_learn_from_them() -> None:
    dataset = world(2, users=40, items=200, events=5000)
    none = Dataset.of({name: frame for name, frame in dataset.tables.items() if len(frame) and name != "sends"})
    with pytest.raises(InputError, match="there are 0 sends to learn from"):
        train(none, UNTIL.timestamp(), rule=SMALL, source="sends")


@pytest.mark.parametrize(
    ("how", "complaint"), [({"source": "dreams"}, "rows come from"), ({"shape": Shape(objective="luck")}, "objective 'luck'")]
)
def test_what_is_not_known_is_refused_by_name(how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        train(world(0), UNTIL.timestamp(), rule=SMALL, **how)


@pytest.mark.parametrize("objective", ["graded", "discounted", "pairwise", "ndcg"])
def test_whatever_the_objective_probabilities_are_those_of_engagement(objective: str) -> None:
    dataset, until = world(2, users=40, items=400, events=9_000, days=120), START + pd.Timedelta(days=120)
    trained = train(dataset, until.timestamp(), rule=SMALL, shape=Shape(objective=objective, most_trees=50))
    found = trained.metrics["validation"]
    assert trained.metrics["objective"] == objective
    assert 0.6 < found["expected_over_observed"] < 1.6
    low, high = found["expected_over_observed_interval"]
    assert low < found["expected_over_observed"] < high
    assert 0 < found["threshold"]["probability"] < 1


def test_training_rows_end_where_the_label_window_would_still_be_open() -> None:
    past = Past.of(world(2, users=40, items=200, events=5000), SMALL.label)
    rows = Rows.concat(list(draw(past, UNTIL.timestamp(), SMALL)))
    assert rows.at.max() + SMALL.label.window_s <= UNTIL.timestamp()
    longer = replace(SMALL, label=LabelRule(window_s=14 * DAY_S))
    assert Rows.concat(list(draw(past, UNTIL.timestamp(), longer))).at.max() + 14 * DAY_S <= UNTIL.timestamp()
