"""What a model's probabilities were worth after its training: with its own curve, and moved each week or day as `tidings calibrate` does.

python -m tests.benchmarks.curves FOLDER --model MODEL --until 2016-11-28T00:00:00Z
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from ranking import bundle as bundles
from ranking.bundle import Bundle
from ranking.calibration import Calibration, moved
from ranking.evaluation import Resampled, Tenth, cut_at, effective_owners, expected_over_observed, log_loss, recall_at, rounded, tenths
from ranking.examples import ExampleRule, Rows
from ranking.fitting import Margins
from ranking.join import features_at
from ranking.labels import DAY_S, is_over
from ranking.offline import State
from ranking.past import Past
from ranking.recalibrate import LEAST_POSITIVES, MOST_ROWS, faded, rows_since
from ranking.training_set import candidates_only

LOWEST, HIGHEST = 0.8, 1.25


def curves(dataset: Dataset, bundle: Bundle, until: float) -> dict[str, Any]:
    """Return the figures of each curve on the candidates after training whose label window is over by `until` (seconds)."""
    rule = ExampleRule(rows=MOST_ROWS)
    state = State(Past.of(dataset, rule.label))
    rows = rows_since(state.past, bundle.window.until, until, rule, seed=0)
    if rows is None:
        return {"rows": 0}
    margin = bundle.margins(features_at(state, rows.user, rows.item, candidates_only(rows)[0], rows.at))
    told = {
        "none": Calibration.identity()(margin),
        "of training": bundle.calibration(margin),
        "moved each week": followed(rows, margin, bundle, rule, 7 * DAY_S),
        "moved each day": followed(rows, margin, bundle, rule, DAY_S),
    }
    about = {"rows": len(rows), "rests_on": evidence(rows), "threshold": kept(rows, margin, bundle)}
    return about | {name: measured(rows, values) for name, values in told.items()}


def evidence(rows: Rows) -> dict[str, Any]:
    """Return what the figures rest on: engaged rows, engagements (one labels rows of several days), who made them, and how alike in number.

    `as_sure_as`: so many people who engage equally often would tell as much. `most_of_one`: the share of one person.
    """
    user, item = rows.user[rows.label], rows.item[rows.label]
    each = np.bincount(user, rows.weight[rows.label]).astype(np.float64)
    pairs = len(np.unique(np.stack([user, item]), axis=1).T)
    return {
        "positives": len(user),
        "engagements": pairs,
        "people": int((each > 0).sum()),
        "as_sure_as": effective_owners(each),
        "most_of_one": float(each.max(initial=0.0) / max(each.sum(), 1e-300)),
    }


def kept(rows: Rows, margin: Margins, bundle: Bundle) -> dict[str, Any]:
    """Return what the threshold that training found for a recall keeps of later engagements, and how many rows it cuts."""
    found = bundle.metrics["validation"]["threshold"]
    above = bundle.calibration(margin) >= found["probability"]
    engaged = rows.label * rows.weight
    return {
        "target_recall": found["target_recall"],
        "recall": recall_at(above.astype(float), rows.label, rows.weight, 0.5),
        "interval_95": list(Resampled.of(rows.user).ratio(above * engaged, engaged)),
        "cut": cut_at(above.astype(float), rows.weight, 0.5),
    }


def followed(rows: Rows, margin: Margins, bundle: Bundle, rule: ExampleRule, every_s: float) -> npt.NDArray[np.float32]:
    """Return what would have been promised by the curve of each row's moment, moved by what was known at that moment."""
    promised = bundle.calibration(margin)
    turn = ((rows.at - bundle.window.until) // every_s).astype(np.int64)
    for at in np.unique(turn):
        moment, here = bundle.window.until + float(at) * every_s, turn == at
        known = is_over(rows.at, moment, rule.label)
        if rows.label[known].sum() >= LEAST_POSITIVES:
            past = rows.take(known)
            promised[here] = moved(bundle.calibration, margin[known], past.label, faded(past, moment))(margin[here])
    return promised


def measured(rows: Rows, probability: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return expected over observed, overall and by tenths, and how many tenths are outside of the aim, perhaps and for sure."""
    label, weight, user = rows.label, rows.weight, rows.user
    found: dict[str, Any] = {
        "expected_over_observed": expected_over_observed(probability, label, weight),
        "interval_95": list(Resampled.of(user).ratio(probability * weight, label * weight)),
        "log_loss": log_loss(probability, label, weight),
    }
    for of in ("rows", "engagement"):
        parts = tenths(probability, label, weight, user, of=of)
        found[f"tenths_of_{of}"] = [vars(part) for part in parts]
        found[f"outside_of_{of}"] = {"by_figure": sum(map(outside, parts)), "for_sure": sum(map(surely_outside, parts))}
    return found


def outside(part: Tenth) -> bool:
    """Return whether a tenth's figure is outside of the aim; one without any engagement is."""
    return not LOWEST <= part.expected_over_observed <= HIGHEST


def surely_outside(part: Tenth) -> bool:
    """Return whether the whole interval of a tenth is outside of the aim."""
    return part.interval[1] < LOWEST or part.interval[0] > HIGHEST


def main() -> None:
    """Print the figures of a model on a folder of tables as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--until", required=True)
    given = parser.parse_args()
    until = pd.Timestamp(given.until)
    found = curves(Dataset.load(given.data, until), bundles.load(given.model, threads=0), until.timestamp())
    sys.stdout.write(json.dumps(rounded(found)) + "\n")


if __name__ == "__main__":
    main()
