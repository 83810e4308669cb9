"""The story in docs/labels.md, as far as a recorded history can tell it: sends cut by two labels, in a world with known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from lake.dataset import Dataset
from ranking.evaluation import cut_at, reached, recall_at, threshold_at_recall
from ranking.examples import ExampleRule, Rows
from ranking.fitting import Shape, fit, margins
from ranking.labels import DAY_S, LabelRule
from ranking.offline import State
from ranking.past import Past
from ranking.sent import sent
from ranking.training_set import TrainingSet
from simulation.world import generate
from simulation.world_parameters import WorldParameters

RULE = ExampleRule(label=LabelRule(window_s=2 * DAY_S))
PEOPLE = WorldParameters(
    users=300, items=900, weeks=8, sends_per_week=80, base=0.0, email_odds=-1.0, email_spread=3.0, interest_weight=1.0, interests=0.4
)
"""A busy and uneven world: eleven sends a day, to people some of whom answer most e-mails and some none."""


@dataclass(frozen=True)
class Filter:
    """What cutting the sends below a threshold on `score` leaves of the held-out ones."""

    rows: Rows
    day: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]

    def days_kept(self, threshold: float) -> float:
        """Return the share of users' days with an engaged send that still have one."""
        label = self.rows.label
        return reached(self.rows.user, self.day, label & (self.score >= threshold)) / reached(self.rows.user, self.day, label)

    def cut(self, threshold: float) -> float:
        """Return the share of sends that go."""
        return cut_at(self.score, self.rows.weight, threshold)

    def kept(self, threshold: float) -> float:
        """Return the share of engagements that stay."""
        return recall_at(self.score, self.rows.label, self.rows.weight, threshold)


@pytest.fixture(scope="module")
def filters() -> dict[str, Filter]:
    past = Past.of(Dataset.of(generate(PEOPLE, 1)), RULE.label)
    rows, channel = sent(past, PEOPLE.end_at, RULE)
    data = TrainingSet.of(State(past), rows, channel, np.ones(len(rows), bool), RULE.label)
    later = PEOPLE.end_at - 16 * DAY_S
    known, held_out = rows.at + RULE.label.window_s <= later, rows.at >= later
    return {
        objective: Filter(
            rows.take(held_out),
            data.day[held_out],
            margins(fit(data, known, Shape(objective=objective), 150, 0), data.matrix[held_out]),
        )
        for objective in ("logistic", "discounted")
    }


@pytest.mark.timeout(900)
def test_a_plain_classifier_at_ninety_percent_recall_cuts_about_as_many_sends_as_clubhouse_told(filters: dict[str, Filter]) -> None:
    plain = filters["logistic"]
    threshold = threshold_at_recall(plain.score, plain.rows.label, plain.rows.weight, 0.9)
    assert plain.kept(threshold) == pytest.approx(0.9, abs=0.01)
    assert 0.3 < plain.cut(threshold) < 0.6


@pytest.mark.timeout(900)
def test_at_the_same_cut_the_discounted_regression_leaves_more_days_with_something_worth_telling(filters: dict[str, Filter]) -> None:
    for cut in (0.4, 0.5, 0.6):
        plain, discounted = (filters[name] for name in ("logistic", "discounted"))
        at = [float(np.quantile(one.score, cut)) for one in (plain, discounted)]
        assert plain.cut(at[0]) == pytest.approx(discounted.cut(at[1]), abs=0.01)
        lost = [1 - one.days_kept(threshold) for one, threshold in zip((plain, discounted), at, strict=True)]
        assert lost[1] < 0.9 * lost[0]
        assert discounted.kept(at[1]) < plain.kept(at[0]) + 0.01
