"""The day's work by hand: where nothing runs there is nobody to do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings.cli import app


def test_where_nothing_runs_it_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path))
    run = CliRunner().invoke(app, ["nightly"])
    assert run.exit_code == 2
    assert "tidings up" in run.stderr
