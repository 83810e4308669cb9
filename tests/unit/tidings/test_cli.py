"""The command line: instant help, one result on stdout, bad input as a message."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from lake.errors import InputError
from tidings import cli
from tidings.console import Json, emit, fail

HEAVY = ("pandas", "numpy", "pyarrow", "ray", "xgboost", "redis", "fastapi")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs `tidings` with one command of each kind in place of `status`."""
    module = ModuleType("tidings.example")
    monkeypatch.setattr(module, "register", _register, raising=False)
    monkeypatch.setitem(sys.modules, "tidings.example", module)
    for name in ("status", "keys"):
        monkeypatch.setitem(cli.COMMANDS, name, cli.Command("tidings.example", "An example.", "Run it"))
    return CliRunner()


def _register(app: typer.Typer) -> None:
    @app.command("status")
    def status(kind: str, as_json: Json = False) -> None:
        """Show an example."""
        if kind == "bad":
            raise InputError("table users, column at, row 3: no time zone")
        if kind == "broken":
            fail("the store does not answer", code=1)
        emit({"kind": kind, "share": float("nan"), "sends": 12345}, as_json=as_json)

    keys = typer.Typer(help="An example of a group.")
    keys.command("list")(lambda: None)
    keys.command("new")(lambda: emit({"key": "k"}, as_json=True))
    app.add_typer(keys, name="keys")


def test_help_imports_none_of_the_heavy_libraries() -> None:
    code = f"import sys, tidings.cli; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_registered_by_its_module(name: str) -> None:
    assert cli.load(name).get_short_help_str()


def test_json_is_one_object_alone_on_stdout(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["status", "good", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"kind": "good", "share": None, "sends": 12345}


def test_the_summary_for_people_holds_the_same_facts(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["status", "good"])
    assert "good" in result.stdout
    assert "unknown" in result.stdout
    assert "12,345" in result.stdout


def test_bad_input_ends_in_its_message_and_exit_code_2(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["status", "bad"])
    assert result.exit_code == 2
    assert "table users, column at, row 3: no time zone" in result.stderr
    assert "Traceback" not in result.output


def test_bad_usage_ends_with_exit_code_2(runner: CliRunner) -> None:
    assert runner.invoke(cli.app, ["status"]).exit_code == 2
    result = runner.invoke(cli.app, ["statsu"])
    assert result.exit_code == 2
    assert "status" in result.output


def test_a_command_that_cannot_do_its_work_ends_with_exit_code_1(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["status", "broken"])
    assert result.exit_code == 1
    assert "the store does not answer" in result.stderr
    assert result.stdout == ""


def test_a_group_of_commands_loads_like_a_command(runner: CliRunner) -> None:
    assert json.loads(runner.invoke(cli.app, ["keys", "new"]).stdout) == {"key": "k"}


@pytest.mark.parametrize("given", [["--data", "NOWHERE"], ["--data=NOWHERE"], ["--model", "m", "--settings", "NOWHERE"]])
def test_a_folder_that_is_missing_is_told_before_anything_is_imported(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "train", cli.Command("tidings.not_there", "", ""))
    result = CliRunner().invoke(cli.app, ["train", *given])
    assert result.exit_code == 2
    assert "NOWHERE: there is no such file or folder" in result.stderr
