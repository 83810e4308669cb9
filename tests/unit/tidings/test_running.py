"""`tidings status` says where to look, whatever of the system answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings.cli import app
from tidings.home import State

DEAD = "http://127.0.0.1:1"


@pytest.fixture(params=["running", "away"])
def state(request: pytest.FixtureRequest, embedded_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A system of which only the store answers, or nothing at all."""
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path))
    store = embedded_store if request.param == "running" else "redis://127.0.0.1:1"
    state = State(os.getpid(), store, f"http://{'a' * 80}:8000", "", DEAD, "models", "spent")
    state.save()
    return state


def test_status_tells_of_what_does_not_answer(state: State) -> None:
    result = CliRunner().invoke(app, ["status", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["deployments"] == {}
    assert any(f"dashboard at {DEAD} does not answer" in alarm for alarm in found["alarms"])
    assert any("the store does not answer" in alarm for alarm in found["alarms"]) is state.store_url.startswith("redis:")


def test_status_links_to_the_console_anew_and_on_one_line(state: State) -> None:
    lines = [CliRunner().invoke(app, ["status"]).stdout.splitlines()[-1] for _ in range(2)]
    assert all(line.startswith(f"{state.api_url}/console") for line in lines)
    assert "token=spent" not in "".join(lines)
    assert ("token=" in lines[0]) is (lines[0] != lines[1])
