"""The world played against the real pipeline: budgets hold, people tire, and the same seed gives the same days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budgets.experiments import Holdout
from budgets.ledger import ROLLING_S, used
from lake.decision_log import unpack
from scheduler.thresholds import OwnThresholds
from simulation.difference import Moments, difference
from simulation.offers import NoisyRanker
from simulation.response import Readers
from simulation.stage import Day, Stage, StageConfig
from simulation.world import World
from simulation.world_parameters import ResponseParameters, WorldParameters

SMALL = WorldParameters(users=150, items=800, weeks=2)


def staged(hard: int = 15, threshold: float = 0.3) -> Stage:
    world = World.of(SMALL, 3)
    stage = Stage(world, NoisyRanker(world), StageConfig(hard=hard))
    stage.thresholds.write({"in_app": threshold})
    return stage


@pytest.fixture(scope="module")
def days() -> list[Day]:
    stage = staged(hard=3, threshold=0.1)
    return [stage.play_day() for _ in range(9)]


def test_no_seven_days_hold_more_than_the_hard_budget_and_some_reach_it(days: list[Day]) -> None:
    sends = np.stack([day.sends[:, 0] for day in days])
    weeks = np.stack([sends[start : start + 7].sum(axis=0) for start in range(3)])
    assert weeks.max() == 3
    assert sends.sum() > 150


def test_the_ledger_and_the_log_hold_what_was_sent() -> None:
    stage = staged()
    sent = sum(int(day.sends.sum()) for day in (stage.play_day() for _ in range(4)))
    users = stage.world.people.ids.tolist()
    assert used(stage.committer.ledger.read(users), len(users), 1, stage.now).sum() == sent > 0
    assert stage.now - stage.world.params.start_at < ROLLING_S


def test_every_offer_is_in_the_decision_log_with_its_disposition(days: list[Day]) -> None:
    for day in days[:2]:
        log = unpack(day.log)
        assert len(log) == day.candidates
        assert (log["disposition"] == "send").sum() == day.sends.sum()


def test_the_same_seed_gives_the_same_days() -> None:
    one, other = staged(), staged()
    for _ in range(3):
        mine, theirs = one.play_day(), other.play_day()
        assert (mine.sends == theirs.sends).all()
        assert (mine.joins, mine.value) == (theirs.joins, theirs.value)


def test_a_twin_lives_the_same_days_and_neither_knows_of_the_others() -> None:
    stage = staged()
    stage.play_day()
    twin = stage.branched()
    mine = [stage.play_day() for _ in range(2)]
    theirs = [twin.play_day() for _ in range(2)]
    for day, other in zip(mine, theirs, strict=True):
        assert (day.sends == other.sends).all()
        assert (day.joined == other.joined).all()
        assert day.value == other.value


def test_while_nothing_comes_in_nothing_is_sent_and_everybody_keeps_a_window() -> None:
    stage = staged()
    stage.down = True
    assert stage.play_day().sends.sum() == 0
    stage.down = False
    assert stage.play_day().sends.sum() > 0


def test_a_higher_threshold_sends_less_of_what_is_better() -> None:
    low, high = (staged(threshold=at).play_day() for at in (0.1, 0.5))
    assert high.sends.sum() < low.sends.sum()
    assert high.value / high.sends.sum() > low.value / low.sends.sum()


def test_users_obey_thresholds_of_their_own() -> None:
    stage = staged(threshold=0.9)
    users = stage.world.people.ids.tolist()
    own = np.where(np.arange(len(users))[:, None] < 10, 0.1, np.nan).astype(np.float32)
    stage.thresholds.write_own(0, OwnThresholds.of(users, own))
    sends = stage.play_day().sends[:, 0]
    assert sends[:10].sum() > 10 > sends[10:].sum()


def test_prompts_six_times_a_day_are_answered_as_rarely_as_in_the_study_the_world_was_fitted_to() -> None:
    """Rowland and Wenzel 2020: 75.0, 73.0, 71.6, 70.3, 70.5, 70.7 % in weeks 1 to 6."""
    params = replace(ResponseParameters(), tiring=1.0, fatigue_spread=0.0)
    readers = Readers.of(np.ones(50), 1, params, np.random.default_rng(0))
    everyone, weeks = np.arange(50), []
    for _ in range(42):
        weeks.append(readers.answers(np.full(50, 1 / (1 + np.exp(-1.201))), everyone).mean())
        for _ in range(6):
            readers.told(everyone, np.ones(50, bool))
        readers.pass_day(np.zeros(50, bool))
    shares = np.array(weeks).reshape(6, 7).mean(axis=1)
    assert shares == pytest.approx([0.750, 0.730, 0.716, 0.703, 0.705, 0.707], abs=0.012)


def test_a_tired_reader_recovers_and_irrelevant_sends_raise_the_risk_of_losing_them() -> None:
    readers = Readers.of(np.ones(2), 1, ResponseParameters(), np.random.default_rng(0))
    fresh = readers.answers(np.full(2, 0.5), np.arange(2))
    for _ in range(40):
        readers.told(np.array([0]), np.array([False]))
    tired, risk = readers.answers(np.full(2, 0.5), np.arange(2)), readers.opt_out_risk(np.arange(2))
    assert tired[0] < fresh[0] == tired[1]
    assert risk[0] > risk[1] == 0
    for _ in range(100):
        readers.pass_day(np.ones(2, bool))
    assert readers.answers(np.full(2, 0.5), np.arange(2))[0] == pytest.approx(fresh[0], abs=1e-3)


def test_a_holdout_of_the_world_is_sent_nothing_and_shows_what_sends_are_worth() -> None:
    world = World.of(SMALL, 3)
    stage = Stage(world, NoisyRanker(world), StageConfig(holdout=Holdout(0.4)))
    held = stage.config.holdout.holds(world.people.ids)
    days = [stage.play_day() for _ in range(10)]
    sends, active = (np.stack([getattr(day, name) for day in days]) for name in ("sends", "active"))
    assert sends[:, held].sum() == 0 < sends[:, ~held].sum()
    moments = Moments.of(np.where(held, 0, 1), active.sum(axis=0), np.ones(len(held)), 2)
    assert difference(moments.take(0), moments.take(1)).low > 0
