"""Policy value on the Open Bandit data: a random policy's log says what Thompson sampling brought in the same weeks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tidings.cli import app


@pytest.fixture
def thompson(tidings_data: Path) -> pd.DataFrame:
    return pd.read_parquet(tidings_data / "open_bandit" / "bts_men.parquet")


def evaluated(tidings_data: Path, target: pd.DataFrame, tmp_path: Path) -> tuple[dict[str, Any], str]:
    path, logged = tmp_path / "target.parquet", tidings_data / "open_bandit" / "random_men.parquet"
    target.to_parquet(path)
    result = CliRunner().invoke(app, ["evaluate", "policy", "--logged", str(logged), "--target", str(path), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_every_interval_holds_what_the_target_policy_brought_when_it_ran(
    tidings_data: Path, thompson: pd.DataFrame, tmp_path: Path
) -> None:
    times = thompson.groupby(["position", "item_id"]).size()
    share = (times / times.groupby("position").transform("sum")).rename("probability").reset_index()
    report, warned = evaluated(tidings_data, share, tmp_path)
    assert report["mean_weight"] == pytest.approx(1, abs=0.05)
    assert report["warnings"] == []
    assert "warning" not in warned
    for estimate in report["estimates"].values():
        for low, high in (estimate["asymptotic"], estimate["bootstrap"]):
            assert low < thompson["click"].mean() < high
            assert 0 < high - low < 0.01


def test_a_target_of_logged_propensities_is_caught_by_its_mean_weight(tidings_data: Path, thompson: pd.DataFrame, tmp_path: Path) -> None:
    wrong = thompson.groupby(["position", "item_id"])["propensity_score"].mean().rename("probability").reset_index()
    report, warned = evaluated(tidings_data, wrong, tmp_path)
    assert report["mean_weight"] == pytest.approx(1.95, abs=0.01)
    assert not report["mean_weight_ok"]
    assert "the mean weight is 1.949" in warned
    assert "not logged propensities" in report["warnings"][0]
