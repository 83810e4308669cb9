"""`tidings evaluate policy`: one result on stdout, warnings that say what to do, bad tables as a message and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tidings.cli import app

RATES = {("1", "a"): 0.1, ("1", "b"): 0.4, ("2", "a"): 0.2, ("2", "b"): 0.3}
TARGET = "position,item_id,probability\n1,a,0.2\n1,b,0.8\n2,a,0.6\n2,b,0.4\n"
VALUE = (0.2 * 0.1 + 0.8 * 0.4 + 0.6 * 0.2 + 0.4 * 0.3) / 2


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A log of even choices at two positions."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"position": random.integers(1, 3, 8000), "item_id": random.choice(["a", "b"], 8000), "propensity": 0.5})
    rate = np.array([RATES[str(place), item] for place, item in zip(rows["position"], rows["item_id"], strict=True)])
    rows["reward"] = (random.random(8000) < rate).astype(int)
    path = tmp_path / "logged.csv"
    rows.to_csv(path, index=False)
    return path


def evaluated(logged: Path, target: str, *options: str) -> Result:
    path = logged.with_name("target.csv")
    path.write_text(target)
    return CliRunner().invoke(app, ["evaluate", "policy", "--logged", str(logged), "--target", str(path), *options])


def test_the_report_is_one_json_object_whose_intervals_hold_the_true_value(logged: Path) -> None:
    result = evaluated(logged, TARGET, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["rows"] == 8000
    assert report["mean_weight_ok"]
    assert report["warnings"] == []
    assert 3000 < report["effective_sample_size"] < 8000
    for estimate in report["estimates"].values():
        for kind in ("asymptotic", "bootstrap"):
            low, high = estimate[kind]
            assert low < VALUE < high


def test_the_summary_has_a_line_per_estimator(logged: Path) -> None:
    result = evaluated(logged, TARGET)
    assert result.exit_code == 0
    for name in ("IPS", "self-normalised IPS", "doubly robust", "self-normalised DR", "effective sample size"):
        assert name in result.stdout


def test_a_target_without_positions_holds_at_each(logged: Path) -> None:
    everywhere = json.loads(evaluated(logged, "item_id,probability\na,0.3\nb,0.7\n", "--json").stdout)
    placed = json.loads(evaluated(logged, "position,item_id,probability\n1,a,0.3\n1,b,0.7\n2,a,0.3\n2,b,0.7\n", "--json").stdout)
    for name in ("ips", "snips"):
        for part in ("value", "standard_error", "asymptotic"):
            assert everywhere["estimates"][name][part] == pytest.approx(placed["estimates"][name][part], abs=1e-9)


def test_probabilities_above_one_in_sum_everywhere_are_warned_of_with_the_mean_weight(logged: Path) -> None:
    result = evaluated(logged, TARGET.replace("0.2", "0.9").replace("0.6", "1.0"), "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert not report["mean_weight_ok"]
    assert report["mean_weight"] == pytest.approx((1.7 + 1.4) / 2, abs=0.05)
    assert "sum to 1.400 to 1.700 per position" in report["warnings"][0]
    assert "warning:" in result.stderr


def test_untrue_propensities_are_warned_of(logged: Path) -> None:
    pd.read_csv(logged).assign(propensity=0.4).to_csv(logged, index=False)
    result = evaluated(logged, TARGET, "--json")
    assert "the propensities are not those the rows were chosen with" in json.loads(result.stdout)["warnings"][0]


def test_choices_that_were_never_logged_are_warned_of(logged: Path) -> None:
    report = json.loads(evaluated(logged, TARGET.replace("1,a,0.2", "1,c,0.2"), "--json").stdout)
    assert report["unseen_share"] == pytest.approx(0.1, abs=0.01)
    assert "never logged at their position" in report["warnings"][0]


def test_a_log_that_tells_of_no_reward_is_warned_of(logged: Path) -> None:
    pd.read_csv(logged).drop(columns="reward").assign(engaged_at="").to_csv(logged, index=False)
    report = json.loads(evaluated(logged, TARGET, "--json").stdout)
    assert "no row has a reward" in report["warnings"][0]


def test_clipping_is_reported(logged: Path) -> None:
    report = json.loads(evaluated(logged, TARGET, "--clip", "1.5", "--json").stdout)
    assert report["clip"] == 1.5
    assert report["clipped_share"] == pytest.approx(0.25, abs=0.02)
    assert report["estimates"]["ips"]["value"] < VALUE


def test_rewards_may_be_clicks_booleans_or_times_of_engagement(logged: Path) -> None:
    rows = pd.read_csv(logged)
    plain = evaluated(logged, TARGET, "--json").stdout
    moments = pd.Series("2026-01-01T00:00:00Z", rows.index).where(rows["reward"] > 0)
    for renamed in (
        rows.rename(columns={"reward": "click", "propensity": "propensity_score"}),
        rows.drop(columns="reward").assign(engaged_at=moments),
        rows.assign(reward=rows["reward"] > 0),
    ):
        path = logged.with_name("other.parquet")
        renamed.to_parquet(path)
        other = json.loads(evaluated(path, TARGET, "--json").stdout)
        assert other["estimates"] == json.loads(plain)["estimates"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (TARGET.replace("1,b,0.8", "1,b,0.7"), "position 1: the probabilities sum to 0.9000, not to 1"),
        (TARGET.replace("1,b,0.8", "1,b,0.9"), "position 1: the probabilities sum to 1.1000, not to 1"),
        (TARGET.replace("1,b,0.8", "1,b,1.8"), "table target, column probability, row 2"),
        (TARGET.replace("1,b", "1,a"), "table target, column position + item_id, row 2"),
        (TARGET.replace("2,a,0.6\n2,b,0.4\n", ""), "has no rows for position 2"),
        (TARGET.replace("1,b,0.8", ",b,0.8"), "column position, row 2: is empty"),
        (TARGET.replace("probability", "share"), "column probability: is missing"),
        (TARGET.partition("1,a")[0], "has no rows"),
        (TARGET.replace("a,", "x,").replace("b,", "y,"), "its item_id values are not those of the log"),
    ],
)
def test_a_bad_target_ends_with_its_place_and_code_2(logged: Path, target: str, message: str) -> None:
    result = evaluated(logged, target, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("item_id,reward\na,1\n", "table logged, column propensity: is missing"),
        ("item_id,propensity\na,0.5\n", "table logged, column reward: is missing"),
        ("item_id,position,propensity,reward\na,1,0.5,1\na,1,0,1\n", "column propensity, row 2: must be above 0"),
        ("item_id,position,propensity,reward\na,1,0.5,1\na,1,0.5,\n", "column reward, row 2: is missing or empty"),
        ("item_id,position,propensity,reward\na,1,1.5,1\n", "column propensity, row 1"),
        ("item_id,propensity,reward\na,0.5,1\n", "column position: is missing"),
        ("item_id,propensity,reward\n", "has no rows"),
    ],
)
def test_a_bad_log_ends_with_its_place_and_code_2(logged: Path, log: str, message: str) -> None:
    logged.write_text(log)
    result = evaluated(logged, TARGET)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_not_there_ends_with_code_2(logged: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "policy", "--logged", str(logged), "--target", "nowhere.csv"])
    assert result.exit_code == 2
    assert "nowhere.csv: there is no such file" in result.stderr
