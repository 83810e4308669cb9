"""A curve fitted anew follows what came after training, uses nothing at or after its moment, and leaves the ranking alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lake.errors import InputError
from ranking.bundle import Bundle, Window
from ranking.evaluation import expected_over_observed
from ranking.examples import ExampleRule
from ranking.join import features_at
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from ranking.recalibrate import faded, recalibrate, rows_since
from ranking.training_set import candidates_only
from tests.unit.ranking.models import bundle_of
from tests.unit.ranking.worlds import DAYS, START, world

HISTORY = world(2, users=40, items=200, events=5000)
RULE = ExampleRule(rows=6_000)
SINCE, UNTIL = START.timestamp() + 20 * DAY_S, START.timestamp() + DAYS * DAY_S


def bundle(since: float = SINCE) -> Bundle:
    return replace(bundle_of(), window=Window(0.0, since))


def test_what_a_new_curve_promises_is_about_what_came_and_every_ranking_stays() -> None:
    old, found = bundle(), recalibrate(bundle(), HISTORY, UNTIL, RULE)
    assert found.metrics["after"]["log_loss"] < found.metrics["before"]["log_loss"]
    state = State(Past.of(HISTORY))
    rows = rows_since(state.past, SINCE, UNTIL, RULE, seed=1)
    assert rows is not None
    matrix = features_at(state, rows.user, rows.item, candidates_only(rows)[0], rows.at)
    margin = old.margins(matrix)
    assert expected_over_observed(found.calibration(margin), rows.label, faded(rows, UNTIL)) == pytest.approx(1, abs=0.15)
    order = np.argsort(margin, kind="stable")
    assert (np.diff(found.calibration.log_odds_of(margin[order])) >= 0).all()


def test_rows_come_after_training_and_have_had_their_time() -> None:
    rows = rows_since(Past.of(HISTORY), SINCE, UNTIL, RULE, seed=0)
    assert rows is not None
    assert rows.at.min() >= SINCE
    assert rows.at.max() + RULE.label.window_s <= UNTIL


def test_too_little_after_training_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match="0 candidates after the model's training were engaged with"):
        recalibrate(bundle(UNTIL - DAY_S), HISTORY, UNTIL, RULE)
