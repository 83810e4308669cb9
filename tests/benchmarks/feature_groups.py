"""What each group of features brings: NDCG@5 on the latest decisions without it, beside all of them, on the same draws of users.

python -m tests.benchmarks.feature_groups FOLDER --until 2016-10-03T00:00:00Z
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lake.dataset import Dataset
from ranking.examples import ExampleRule, Rows, draw
from ranking.fitting import GROUPS, Margins, Shape, fit, margins
from ranking.held_out import HeldOut
from ranking.offline import State
from ranking.past import Past
from ranking.training_set import TrainingSet, candidates_only
from ranking.walk import Split, known_at

TREES = 150
SEEDS = (0, 1)


def ablation(dataset: Dataset, until: float) -> dict[str, Any]:
    """Return the NDCG@5 of all features, and what leaving each group out costs, with intervals over users."""
    rule = ExampleRule()
    state = State(Past.of(dataset, rule.label))
    rows = Rows.concat(list(draw(state.past, until, rule)))
    data = TrainingSet.of(state, rows, *candidates_only(rows), rule.label)
    late_at = float(data.rows.at[Split.of(data.rows.at).late].min())
    latest, there = HeldOut.of(state, late_at, until, rule), known_at(data, late_at, rule.label)

    def score(shape: Shape) -> Margins:
        boosters = [fit(data, there, shape, TREES, seed) for seed in SEEDS]
        total: Margins = np.sum([margins(booster, latest.matrix) for booster in boosters], axis=0)
        return total

    everything = score(Shape())
    whole = latest.ndcg(everything)
    found: dict[str, Any] = {"decisions": len(np.unique(latest.group)), "all": latest.measured(everything), "brings": {}}
    for group in GROUPS:
        without = score(replace(Shape(), without=(group,)))
        found["brings"][group] = {"ndcg_at_5": whole - latest.ndcg(without), "interval_95": latest.better(everything, without)}
    return found


def main() -> None:
    """Print the ablation of a folder of tables as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--until", required=True)
    given = parser.parse_args()
    until = pd.Timestamp(given.until)
    sys.stdout.write(json.dumps(ablation(Dataset.load(given.data, until), until.timestamp())) + "\n")


if __name__ == "__main__":
    main()
