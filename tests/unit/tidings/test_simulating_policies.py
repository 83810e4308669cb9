"""Policies side by side and the story of two filters, from the command line: what is counted, drawn for people, and refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation.contest import CONTESTANTS, ContestConfig, play
from tidings.cli import app
from tidings.policy_page import headline, page

SMALL = ContestConfig(users=80, learn_days=8, hold_days=3, days=9, settle_days=2)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return play(SMALL)


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["simulate", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_all_policies_live_under_the_same_hard_budget(report: dict[str, Any]) -> None:
    assert list(report["policies"]) == list(CONTESTANTS)
    for row in report["policies"].values():
        assert row["sends"] > 0 == row["overspent"]
        assert row["most_in_seven_days"] <= SMALL.hard


def test_what_a_model_chooses_is_answered_more_often_than_a_random_audience(report: dict[str, Any]) -> None:
    rows = report["policies"]
    assert rows["random"]["answered_per_send"]["difference"] == 0
    for name in ("classifier", "discounted", "ours"):
        assert rows[name]["answered_per_send"]["low"] > 0
    paced = [rows[name]["sends_per_person"] for name in ("random", "ours")]
    assert paced[0] == pytest.approx(paced[1], rel=0.35)


def test_the_page_says_what_won_and_draws_every_policy(report: dict[str, Any]) -> None:
    html = page(report)
    pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert pictures
    lines = [each for each in ET.fromstring(pictures[0]).iter() if each.tag.endswith("polyline")]
    assert len(lines) == len(CONTESTANTS) + 1
    for name in CONTESTANTS:
        assert f"<td>{name}</td>" in html
    assert "brings most here" in html
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", html)


def test_every_policy_says_what_each_tenth_of_the_people_got_and_the_page_shows_it(report: dict[str, Any]) -> None:
    html = page(report)
    for name, row in report["policies"].items():
        tenths = row["by_activity_decile"]
        assert [part["decile"] for part in tenths] == list(range(1, 11))
        assert sum(part["users"] for part in tenths) == SMALL.users
        assert sum(part["sends"] for part in tenths) == row["sends"]
        before = [part["active_before"] / part["users"] for part in tenths]
        assert before == sorted(before)
        shown = "".join(f"<td>{100 * part['share_of_sends']:.1f}</td>" for part in tenths)
        assert f"<td>{name}</td>{shown}" in html


def test_what_chance_could_do_is_not_called_a_win(report: dict[str, Any]) -> None:
    rows = json.loads(json.dumps(report["policies"]))
    rows["popular"]["answered_per_person"] |= {"value": 9.0, "low": -1.0}
    assert "chance alone" in headline(rows, "popular")
    assert "No policy" in headline(rows, "random")


def test_the_command_writes_the_page_beside_its_report(tmp_path: Path) -> None:
    out = tmp_path / "new" / "policies.html"
    found = run("policies", "--users", "30", "--days", "7", "--page", str(out))
    assert found["page"] == str(out)
    assert "Policies side by side" in out.read_text(encoding="utf-8")
    assert set(found["policies"]) == set(CONTESTANTS)


def test_the_story_of_two_filters_is_told_world_by_world() -> None:
    found = run("clubhouse", "--worlds", "2", "--users", "40", "--days", "7", "--tiring", "1")
    assert [each["seed"] for each in found["each"]] == [1, 2]
    assert found["tiring"] == 1.0
    plain = found["filters"]["plain"]
    assert plain["worlds_with_less_engagement"] == sum(each["plain"]["active"] < 1 for each in found["each"])
    assert plain["worlds_with_lower_engagement"] == sum(each["plain"]["active_high"] < 1 for each in found["each"])
    done = CliRunner().invoke(app, ["simulate", "clubhouse", "--worlds", "1", "--users", "40", "--days", "7"])
    assert "published" in done.stdout


@pytest.mark.parametrize("arguments", [("outage", "--page", "x.html"), ("policies", "--worlds", "3"), ("clubhouse", "--policy", "pid")])
def test_an_option_of_another_scenario_is_refused(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    assert done.exit_code == 2
    assert "No such option" in done.output
