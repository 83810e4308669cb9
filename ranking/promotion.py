"""The evidence on which a challenger is promoted or refused: what both models said of the same rows, live or of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lake.dataset import Dataset
from lake.history import History
from ranking import bundle as bundles
from ranking import gates, shadow
from ranking.bundle import Bundle
from ranking.examples import ExampleRule
from ranking.gates import GateRule, Paired, Verdict
from ranking.held_out import HeldOut
from ranking.labels import LabelRule
from ranking.offline import State
from ranking.past import Past


def of_history(history: History, serving_id: str, challenger_id: str, now: float, rule: LabelRule) -> Paired:
    """Return what both models said of live rows, and what followed them."""
    rows = shadow.read(history, serving_id, challenger_id, now)
    return shadow.paired(rows, shadow.engagements(history, rows, now, rule), now, rule)


def of_dataset(dataset: Dataset, serving: Bundle, challenger: Bundle, label: LabelRule) -> Paired:
    """Return what both models say of the decisions in a dataset that neither was trained on, empty where there are none."""
    rule = ExampleRule(label=label)
    state = State(Past.of(dataset, label))
    since = max(serving.window.until, challenger.window.until)
    until = float(state.past.at.max(initial=since)) + 1e-6
    rows = HeldOut.of(state, since, until, rule)
    return Paired(
        owner=rows.owner,
        group=rows.group,
        serving=serving.probabilities(rows.matrix),
        challenger=challenger.probabilities(rows.matrix),
        label=rows.rows.label,
        known=np.ones(len(rows.rows), bool),
    )


def verdicts(serving: Path, challenger: Path, rows: Paired, rule: GateRule | None = None) -> list[Verdict]:
    """Return what each gate says of a challenger (bundle folders); raises BundleError where one is none."""
    schema = gates.schema(bundles.about(serving).schema, bundles.about(challenger).schema)
    return [schema, gates.drift(rows, rule), gates.metric(rows, rule)]
