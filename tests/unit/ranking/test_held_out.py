"""What rankings are measured on: whole decisions after a moment that had a right answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranking.evaluation import Resampled, ndcg_each
from ranking.examples import Candidates, ExampleRule
from ranking.held_out import HeldOut
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from tests.unit.ranking.worlds import DAYS, START, world

RULE = ExampleRule()
UNTIL = (START + pd.Timedelta(days=DAYS)).timestamp()
STATE = State(Past.of(world(2, users=40, items=200, events=5000), RULE.label))
SINCE = UNTIL - 25 * DAY_S
HELD_OUT = HeldOut.of(STATE, SINCE, UNTIL, RULE)


def test_rows_lie_within_the_time_and_their_windows_are_over() -> None:
    assert HELD_OUT.rows.at.min() >= SINCE
    assert HELD_OUT.rows.at.max() + RULE.label.window_s <= UNTIL


def test_every_decision_had_a_right_answer_and_holds_all_of_its_candidates() -> None:
    frame = pd.DataFrame({"group": HELD_OUT.group, "label": HELD_OUT.rows.label, "user": HELD_OUT.rows.user, "at": HELD_OUT.rows.at})
    assert frame.groupby("group")["label"].any().all()
    alive = Candidates(STATE.past, RULE).alive(float(UNTIL - RULE.label.window_s - DAY_S))
    user = int(alive.user[alive.label][0])
    mine = frame[(frame["user"] == user) & (frame["at"] == alive.at[0])]
    assert len(mine) == (alive.user == user).sum()
    assert mine["label"].sum() == alive.label[alive.user == user].sum()


def test_the_truth_ranks_perfectly_and_is_better_than_chance_by_an_interval_above_zero() -> None:
    truth, random = HELD_OUT.rows.label.astype(float), HELD_OUT.baselines()["random"]
    found = HELD_OUT.measured(truth)
    assert found["ndcg_at_5"] == HELD_OUT.ndcg(truth) == 1.0
    low, high = HELD_OUT.measured(random)["interval_95"]
    assert low < HELD_OUT.ndcg(random) < high
    assert HELD_OUT.better(truth, random)[0] > 0


def test_intervals_draw_users_and_at_births_items_with_all_of_their_decisions() -> None:
    at_birth = HELD_OUT.owner % 2 == 1
    assert at_birth.any()
    assert not at_birth.all()
    assert np.array_equal(HELD_OUT.owner // 2, np.where(at_birth, HELD_OUT.rows.item, HELD_OUT.rows.user))
    decisions, first = np.unique(HELD_OUT.group, return_index=True)
    drawn = Resampled.of(HELD_OUT.owner[first])
    assert len(decisions) > drawn.times.shape[1], "somebody decided more than once"
    each = ndcg_each(HELD_OUT.group, HELD_OUT.baselines()["popular"], HELD_OUT.rows.label)[1]
    assert HELD_OUT.measured(HELD_OUT.baselines()["popular"])["interval_95"] == list(drawn.mean(each))


def test_nothing_held_out_is_measured_as_nothing() -> None:
    empty = HeldOut.of(STATE, UNTIL, UNTIL, RULE)
    assert len(empty.rows) == 0
    assert np.isnan(empty.ndcg(np.empty(0)))
    assert np.isnan(empty.measured(np.empty(0))["ndcg_at_5"])
    assert np.isnan(empty.better(np.empty(0), np.empty(0))).all()
