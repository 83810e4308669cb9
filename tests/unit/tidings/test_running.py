"""`tidings status` says where to look, whatever of the system answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings import demo
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


def _runs_in(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "state.json").write_text(json.dumps(State(os.getpid(), "unix:///nowhere", DEAD, "", DEAD, "models").__dict__))


@pytest.mark.parametrize("words", [["down"], ["status"], ["keys", "list"], ["window", "--user", "ada", "--dry-run"], ["nightly"]])
def test_who_asks_beside_a_running_demo_is_told_how_to_reach_it(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path))
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert "demo" not in CliRunner().invoke(app, words).output
    _runs_in(tmp_path / "demo")
    result = CliRunner().invoke(app, words)
    assert result.exit_code != 0
    assert f"TIDINGS_HOME={tmp_path}/demo" in result.output.replace("\n", "")


def test_a_second_demo_leaves_the_first_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path))
    monkeypatch.setattr(demo, "end_like_ctrl_c", lambda: None)
    _runs_in(tmp_path / "demo")
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2
    assert f"stop it with `TIDINGS_HOME={tmp_path}/demo tidings down`" in result.stderr
    assert (tmp_path / "demo" / "state.json").exists()
