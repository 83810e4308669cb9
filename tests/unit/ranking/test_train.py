"""Training tells too little data from enough, and keeps later rows for what they are for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.errors import InputError
from ranking.examples import ExampleRule
from ranking.labels import DAY_S
from ranking.offline_score import score_candidates
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


def test_trials_take_the_best_shape_and_list_all_of_them() -> None:
    trained = train(world(2, users=40, items=200, events=5000), UNTIL.timestamp(), trials=2, rule=SMALL)
    tried = trained.metrics["trials"]
    assert len(tried) == 3
    assert tried[0]["max_depth"] == Shape().parameters["max_depth"]
    chosen = next(attempt for attempt in tried if attempt["name"] == trained.metrics["chosen"])
    assert chosen["ndcg_at_5"] == max(attempt["ndcg_at_5"] for attempt in tried if not attempt["pruned"])


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
