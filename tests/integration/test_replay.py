"""Replay on the small world: the real ledger, commit and log under a simulated clock keep what they promise."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.errors import InputError
from ranking import bundle as bundles
from ranking.bundle import Bundle
from simulation.policies import PolicyName
from simulation.replay import ReplayConfig, Replayed, replay
from simulation.urgent_replay import Posted
from tests.integration.conftest import SmallWorld

pytestmark = pytest.mark.timeout(600)

DAYS = 4
BUDGET = 2


def untold(_policy: PolicyName, _at: float) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def model(small_world: SmallWorld) -> Bundle:
    return bundles.load(small_world.model, verified=True)


@pytest.fixture(scope="module")
def config(small_world: SmallWorld) -> ReplayConfig:
    """Four days of the week that the model has not seen."""
    since = small_world.end_at - 7 * 86400
    return ReplayConfig(since, since + DAYS * 86400, ("ranked", "random"), budget=BUDGET, horizon_days=3)


@pytest.fixture(scope="module")
def replayed(small_world: SmallWorld, model: Bundle, config: ReplayConfig) -> Replayed:
    return replay(small_world.history, model, config, untold)


def sends(replayed: Replayed, policy: str) -> pd.DataFrame:
    rows = replayed.decisions
    return rows[(rows["policy"] == policy) & (rows["disposition"] == "send")]


def test_every_policy_sends_as_much_within_the_budgets_and_the_time(replayed: Replayed, config: ReplayConfig) -> None:
    volumes = set()
    for policy in config.policies:
        sent, worth = sends(replayed, policy), replayed.report["policies"][policy]
        assert worth["overspent"] == 0
        assert 0 < worth["budget_use"] <= 1
        assert sent.groupby("user_id").size().max() <= BUDGET
        assert not sent.duplicated(["user_id", "item_id"]).any()
        assert sent["at"].min() >= pd.Timestamp(config.since, unit="s", tz="UTC")
        assert sent["at"].max() < pd.Timestamp(config.until, unit="s", tz="UTC")
        volumes.add(len(sent))
    assert len(volumes) == 1


def test_nobody_is_told_of_anything_before_it_was_there(replayed: Replayed, small_world: SmallWorld) -> None:
    born = small_world.history.items.set_index("item_id")["created_at"]
    rows = replayed.decisions
    assert (rows["item_id"].map(born) < rows["at"]).all()


def test_each_window_is_one_decision(replayed: Replayed) -> None:
    """A user may have one window a quarter-hour at most."""
    for _, rows in replayed.decisions.groupby("policy"):
        assert (rows.groupby(["user_id", "at"])["decision_id"].nunique() == 1).all()


def test_the_model_is_worth_more_than_chance(replayed: Replayed) -> None:
    policies = replayed.report["policies"]
    assert policies["ranked"]["engaged_in_horizon"] > policies["random"]["engaged_in_horizon"]
    low, high = replayed.report["ranked_beside"]["random"]["interval_95"]
    ratio = policies["ranked"]["engaged_per_send"] / policies["random"]["engaged_per_send"]
    assert replayed.report["ranked_beside"]["random"]["ratio"] == pytest.approx(ratio)
    assert low < ratio < (high or float("inf"))


def test_the_same_replay_gives_the_same_report(replayed: Replayed, small_world: SmallWorld, config: ReplayConfig) -> None:
    again = replay(small_world.history, None, replace(config, policies=("random",)), untold)
    assert again.report["policies"]["random"] == replayed.report["policies"]["random"]
    columns = ["user_id", "item_id", "at", "disposition", "reason", "value"]
    before = replayed.decisions[replayed.decisions["policy"] == "random"][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.decisions[columns], before, check_categorical=False)


def test_a_budget_of_nothing_sends_nothing(small_world: SmallWorld, config: ReplayConfig) -> None:
    silent = replay(small_world.history, None, replace(config, policies=("recent",), budget=0), untold)
    assert silent.report["policies"]["recent"]["sends"] == 0


def test_a_model_that_has_seen_the_days_is_refused(small_world: SmallWorld, model: Bundle, config: ReplayConfig) -> None:
    with pytest.raises(InputError, match="after the replay's start"):
        replay(small_world.history, model, replace(config, since=config.since - 1), untold)
    with pytest.raises(InputError, match="needs a model"):
        replay(Dataset.of({"events": small_world.history.events.head(5)}), None, config, untold)


def test_what_is_posted_to_the_urgent_lane_goes_at_once_or_waits_for_a_window(small_world: SmallWorld, config: ReplayConfig) -> None:
    played = replay(small_world.history, None, replace(config, policies=("recent",), urgent=Posted.of(["all"])), untold)
    report, rows = played.report["policies"]["recent"], played.decisions
    born = small_world.history.items.set_index("item_id")["created_at"]
    at_once = rows[rows["lane"] == "urgent"]
    assert (at_once["item_id"].map(born) == at_once["at"]).all()
    assert set(at_once["source"]) == {"urgent"}
    made = small_world.history.items
    since, until = (pd.Timestamp(at, unit="s", tz="UTC") for at in (config.since, config.until))
    assert report["urgent"]["items"] == int(((made["created_at"] >= since) & (made["created_at"] < until)).sum())
    assert report["by_lane"].keys() == report["lanes"].keys() == {"scheduled", "urgent"}
    assert report["lanes"]["urgent"]["delay_h_p90"] == 0
    assert report["lanes"]["scheduled"]["delay_h_median"] > 0
    assert 0 < report["urgent"]["held_sent"] <= report["urgent"]["held"]
    assert report["overspent"] == 0
    sent = rows[rows["disposition"] == "send"]
    assert not sent.duplicated(["user_id", "item_id"]).any()
    assert (rows["at"] >= rows["item_id"].map(born)).all()
