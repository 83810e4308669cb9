"""Worlds played from the command line: what happens in them, what is counted, and what is refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lake.errors import InputError
from simulation.scenarios import SCENARIOS, Lived, ScenarioConfig, play, whole
from tidings.cli import app
from tidings.line_plot import line_plot
from tidings.simulating import chosen

TINY = ScenarioConfig(users=40, calm_days=8, days=9)


def lived(weeks: list[float], started: float = 5.0) -> Lived:
    return Lived(target=5.0, started=started, weeks=weeks)


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["simulate", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_settled_is_who_stays_near_the_budget_from_a_day_on() -> None:
    assert lived([5.0, 5.4, 4.6]).settling_days == 0
    assert lived([9.0, 5.0, 5.6, 5.4, 5.0]).settling_days == 3
    assert lived([5.0, 5.0, 5.6]).settling_days is None


def test_overshoot_is_how_far_beyond_the_budget_one_comes_from_where_one_was() -> None:
    assert lived([4.0, 6.0, 5.0]).overshoot == pytest.approx(0.2)
    assert lived([9.0, 6.0, 4.0, 5.0], started=10.0).overshoot == pytest.approx(0.2)
    assert lived([4.0, 4.5]).overshoot == 0.0


def test_the_command_reports_every_policy_asked_for_and_the_same_seed_gives_the_same_figures() -> None:
    arguments = ("cold-start", "--policy", "pid", "--policy", "steered", "--users", "30", "--days", "7", "--seed", "3")
    report = run(*arguments)
    assert list(report["scenarios"]) == ["cold-start"]
    policies = report["scenarios"]["cold-start"]
    assert list(policies) == ["pid", "steered"]
    for row in policies.values():
        assert len(row["weekly_sends"]) == 7
        assert row["sends"] > 0 < row["value"]
    assert run(*arguments) == report


@pytest.mark.parametrize("arguments", [["flood"], ["outage", "--policy", "luck"]])
def test_an_unknown_name_ends_with_what_there_is_to_choose_from(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    assert done.exit_code == 2
    assert "choose from" in done.output or "No such command" in done.output
    with pytest.raises(InputError, match="unknown policy 'luck'"):
        chosen("policy", ["luck"], ("pid",))


def test_while_offers_are_away_sends_wane_and_afterwards_they_return() -> None:
    weeks = np.array(play("outage", "steered", TINY).weeks)
    assert weeks[0] > weeks[2]
    assert weeks[-1] > weeks[2]


def test_a_new_budget_moves_the_sends_of_a_steered_threshold_its_way_within_a_week() -> None:
    halved, doubled = (play(name, "steered", TINY) for name in ("budget-halved", "budget-doubled"))
    assert halved.weeks[-1] < 0.75 * halved.started
    assert doubled.weeks[-1] > 1.5 * doubled.started


def test_scores_that_all_rise_send_more_until_the_threshold_has_followed() -> None:
    drift, calm = (play("score-drift", "pid", replace(TINY, drift=drift)) for drift in (2.0, 0.0))
    assert drift.weeks[:4] > calm.weeks[:4]
    boom = play("topic-boom", "pid", TINY)
    assert boom.weeks != calm.weeks


def test_a_course_counts_a_phase_that_never_settles_in_full_and_keeps_the_worst_overshoot() -> None:
    steady, never = lived([5.0, 5.0, 5.0, 5.0]), lived([5.0, 5.0, 7.0, 7.0])
    found = whole([steady, never])
    assert found["settling_days"] == 2.0
    assert found["overshoot"] == pytest.approx(0.4)
    assert found["mean_absolute_deviation"] == pytest.approx(0.1)


def test_a_course_leads_one_world_through_every_scenario_and_draws_what_was_sent(tmp_path: Path) -> None:
    picture = tmp_path / "course.svg"
    report = run("course", "--policy", "steered", "--users", "30", "--days", "7", "--plot", str(picture))
    found = report["scenarios"]
    assert list(found) == [*SCENARIOS, "course"]
    assert found["course"]["steered"]["sends"] == sum(found[name]["steered"]["sends"] for name in SCENARIOS)
    lines = [each for each in ET.fromstring(picture.read_text(encoding="utf-8")).iter() if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [42, 42]


def test_what_is_not_a_course_is_not_drawn_nor_is_nothing() -> None:
    done = CliRunner().invoke(app, ["simulate", "outage", "--plot", "x.svg"])
    assert done.exit_code == 2
    with pytest.raises(ValueError, match="two days"):
        line_plot("", {"a": [1.0]}, {})


@pytest.mark.parametrize("seed", [1, 2])
def test_after_three_days_without_offers_there_is_no_burst_and_the_next_week_is_like_the_one_before(seed: int) -> None:
    lived = play("outage", "steered", ScenarioConfig(users=120, calm_days=21, days=10, seed=seed))
    assert lived.weeks[2] < 0.75 * lived.started
    assert lived.weeks[9] == pytest.approx(lived.started, rel=0.1)
    assert max(lived.weeks[3:]) <= 1.1 * lived.started


def test_pacing_reports_each_policys_share_of_what_hindsight_earns() -> None:
    report = run("pacing", "--users", "40", "--days", "14")
    shares = {name: row["of_hindsight"] for name, row in report["policies"].items()}
    assert list(shares) == ["greedy", "fixed", "steered", "paced"]
    assert shares["greedy"] < shares["steered"] < shares["paced"] < 1
    assert report["hindsight"] < report["perfect"]
    bounds = {name: row["of_hindsight"] for name, row in report["bounds"].items()}
    assert shares["steered"] < bounds["rolling"] < bounds["calendar"] < 1
