"""`tidings replay`: what people see of a comparison, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lake.dataset import save_tables
from tests.unit.ranking.worlds import world
from tidings.cli import app
from tidings.replaying import compared


def row(known: int) -> dict[str, Any]:
    """A policy's figures, of 12,345 sends of which so many are known to the end of the horizon."""
    counts = {"sends": 12_345, "engaged_48h": 1_234, "engaged_7d": 1_345, "engaged_in_horizon": 1_456, "known_sends": known}
    shares = {"engaged_per_send": 0.125 if known else 0.0, "sends_per_user": 2.5, "budget_use": 1.0, "overspent": 0}
    return {**counts, **shares, "cut_of_random": {"cut": 0.5}}


def shown(known: int, width: int = 80) -> str:
    console = Console(width=width, record=True)
    console.print(
        compared({"policies": {"ranked": row(known), "popular_week": row(known)}, "ranked_beside": {"popular_week": {"ratio": 1.5}}}, 14)
    )
    return console.export_text()


def test_the_comparison_fits_into_a_terminal_of_eighty() -> None:
    assert "…" not in shown(12_345)
    assert all(figure in shown(12_345) for figure in ("popular_week", "12,345", "0.1250", "1.50 x", "50%", "random"))


@pytest.mark.parametrize(("known", "is_told"), [(0, True), (100, True), (12_345, False)])
def test_sends_whose_horizon_is_not_over_are_told_of_and_no_rate_is_made_up_for_them(known: int, is_told: bool) -> None:
    text = " ".join(shown(known).split())
    assert ("--horizon" in text) is is_told
    assert ("0.0000" in text, "0.1250" in text) == (False, known > 0)


def test_days_after_the_last_event_are_refused(tmp_path: Path) -> None:
    tables = world(0, users=5, items=5, events=50).tables
    save_tables(tables, tmp_path / "data")
    day = tables["events"]["at"].max().ceil("D") + pd.Timedelta(days=1)
    times = ("--from", day.isoformat(), "--to", (day + pd.Timedelta(days=1)).isoformat())
    result = CliRunner().invoke(app, ["replay", "--data", str(tmp_path / "data"), *times, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "is after the last event" in result.stderr
