"""Uplift on a randomised e-mail campaign: an order that gains more than sending at random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings.cli import app


@pytest.mark.parametrize("method", ["two_model", "transformed"])
@pytest.mark.parametrize("treated", [[], ["--treated", "Womens E-Mail"]])
def test_the_qini_coefficient_is_above_0_with_its_whole_interval(tidings_data: Path, method: str, treated: list[str]) -> None:
    table = tidings_data / "hillstrom" / "customers.parquet"
    command = ["evaluate", "uplift", "--data", str(table), "--outcome", "visit", "--method", method, *treated, "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert set(report["left_out"]) == {"conversion", "spend"}
    assert report["effect"] == pytest.approx(0.047 if treated else 0.062, abs=0.001)
    assert 0 < report["qini_interval"][0] < report["qini"] < report["qini_interval"][1]
    assert report["by_fifth"][0]["observed"] > report["by_fifth"][4]["observed"]
