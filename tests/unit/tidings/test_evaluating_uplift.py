"""`tidings evaluate uplift`: what a randomised table says, what it leaves out of account, and bad tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tidings.cli import app


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A trial of two treatments; people in the north gain by both."""
    random, n = np.random.default_rng(0), 4000
    rows = pd.DataFrame({"person": [f"p{number}" for number in range(n)], "region": random.choice(["north", "south"], n)})
    rows["age"], rows["treatment"] = random.integers(18, 80, n), random.choice(["push", "email", "none"], n)
    gain = 0.3 * ((rows["region"] == "north") & (rows["treatment"] != "none"))
    rows["visit"] = (random.random(n) < 0.1 + gain).astype(int)
    rows["spend"] = rows["visit"] * random.gamma(2, 10, n)
    path = tmp_path / "trial.parquet"
    rows.to_parquet(path)
    return path


def evaluated(table: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", "uplift", "--data", str(table), *options])


def test_the_report_says_who_gains_and_leaves_out_what_came_of_the_treatment(table: Path) -> None:
    result = evaluated(table, "--outcome", "visit", "--draws", "100", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["control"] == "none"
    assert report["treated"] == ["email", "push"]
    assert report["features"] == ["region", "age"]
    assert set(report["left_out"]) == {"person", "spend"}
    assert report["better_than_random"]
    assert 0 < report["qini_interval"][0] < report["qini"] < report["qini_interval"][1]
    assert report["effect"] == pytest.approx(0.15, abs=0.03)
    assert report["by_fifth"][0]["observed"] > 0.2 > 0.1 > report["by_fifth"][4]["observed"]
    assert set(report["by_treatment"]) == {"email", "push"}
    assert "left out: spend" in result.stderr


def test_one_treatment_and_named_features_can_be_chosen(table: Path) -> None:
    result = evaluated(table, "--outcome", "visit", "--treated", "push", "--features", "age", "--method", "transformed", "--json")
    report = json.loads(result.stdout)
    assert report["treated"] == ["push"]
    assert report["features"] == ["age"]
    assert report["by_treatment"] == {}
    assert not report["better_than_random"]


def test_every_row_can_be_written_with_its_uplift(table: Path) -> None:
    out = table.with_name("uplift.csv")
    assert evaluated(table, "--outcome", "visit", "--draws", "100", "--out", str(out)).exit_code == 0
    rows = pd.read_csv(out)
    assert len(rows) == 4000
    means = rows.groupby("region")["uplift"].mean()
    assert means["north"] == pytest.approx(0.3, abs=0.05)
    assert means["south"] == pytest.approx(0, abs=0.05)


def test_the_summary_names_the_coefficient_and_the_fifths(table: Path) -> None:
    shown = evaluated(table, "--outcome", "visit", "--draws", "100").stdout
    assert "Qini coefficient" in shown
    assert "fifth 5" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--outcome", "bought"], "column bought: is missing"),
        (["--outcome", "visit", "--treatment", "arm"], "column arm: is missing"),
        (["--outcome", "visit", "--control", "nobody"], "which value is the control?"),
        (["--outcome", "visit", "--treatment", "region"], "give --control, one of north, south"),
        (["--outcome", "visit", "--treated", "sms"], "--treated 'sms' is not one of"),
        (["--outcome", "visit", "--features", "shoe"], "--features shoe is no column"),
        (["--outcome", "region"], "is not a number"),
        (["--outcome", "visit", "--method", "magic"], "--method 'magic' is not known"),
        (["--outcome", "visit", "--out", "uplift.xls"], "name a file to write that ends in"),
        (["--outcome", "visit", "--features", "person"], "no column is left"),
    ],
)
def test_bad_use_ends_with_its_reason_and_code_2(table: Path, options: list[str], message: str) -> None:
    result = evaluated(table, *options, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


def test_an_empty_outcome_and_a_small_arm_end_with_code_2(table: Path) -> None:
    rows = pd.read_parquet(table)
    rows.assign(visit=rows["visit"].astype(float).where(rows.index != 2)).to_parquet(table)
    assert "column visit, row 3: is missing or empty" in evaluated(table, "--outcome", "visit").stderr
    rows.head(300).to_parquet(table)
    small = evaluated(table, "--outcome", "visit")
    assert small.exit_code == 2
    assert "it takes 200 of each arm" in small.stderr
