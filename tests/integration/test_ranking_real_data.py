"""Ranking real histories: better than popularity and age on weeks that training did not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from ranking.evaluation import ndcg
from ranking.examples import Candidates, ExampleRule, Rows
from ranking.features import FEATURES, NO_CHANNEL
from ranking.join import features_at
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from ranking.train import train

RULE = ExampleRule(rows=40_000, history_s=365 * DAY_S)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "until", "group", "least", "popular"),
    [("deskdrop", "2016-09-05", "user", 0.35, (0.9, 1.1)), ("patch_reviews", "2022-07-04", "item", 0.55, (0.6, 1.6))],
)
def test_a_model_ranks_the_weeks_after_its_training_better_than_popularity_and_age(
    tidings_data: Path, name: str, until: str, group: str, least: float, popular: tuple[float, float]
) -> None:
    moment = pd.Timestamp(until, tz="UTC")
    trained = train(Dataset.load(tidings_data / name, moment), moment.timestamp(), rule=RULE)
    past = Past.of(Dataset.load(tidings_data / name, moment + pd.Timedelta(days=28)))
    rows = weeks_after(past, moment.timestamp(), group)
    matrix = features_at(State(past), rows.user, rows.item, np.full(len(rows), NO_CHANNEL, np.uint8), rows.at)
    decision = getattr(rows, group).astype(np.int64) * 4 + (rows.at - moment.timestamp()) // (7 * DAY_S)
    reached = ndcg(decision, trained.booster.inplace_predict(matrix), rows.label)
    assert reached > least
    popularity = trained.metrics["validation"]["popularity"]
    assert popular[0] < popularity["expected_over_observed"] < popular[1]
    assert popularity["auc"] > 0.75
    for baseline, sign in (("item_users_7d", 1), ("item_age_h", -1), ("by_topic_180d_sum", 1)):
        assert reached > ndcg(decision, sign * matrix[:, FEATURES.index(baseline)], rows.label)


def weeks_after(past: Past, start: float, group: str) -> Rows:
    """Return the candidates of three Mondays, or of the items born in the three weeks after `start`."""
    candidates = Candidates(past, replace(RULE, history_s=0.0))
    if group == "user":
        return Rows.concat([candidates.alive(start + week * 7 * DAY_S) for week in range(3)])
    return Rows.concat([candidates.born(start + day * DAY_S) for day in range(21)])
