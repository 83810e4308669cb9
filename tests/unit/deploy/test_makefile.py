"""What each make target would run, without running it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TARGETS = ("setup", "demo", "test", "lint", "bench", "judge", "lock", "help")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Ask make what it would do (`-n`), as if everything had to be done (`-B`)."""
    return _run(ROOT, "-nB", *arguments)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDINGS_", "MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=kept, capture_output=True, text=True, check=False)


def test_help_lists_every_target() -> None:
    listed = _run(ROOT, "help").stdout
    assert all(f"make {target} " in listed for target in TARGETS)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "setup"])
@pytest.mark.parametrize("uv", ["uv", ""])
def test_every_target_sets_up_its_environment_first(target: str, uv: str) -> None:
    steps = make(target, f"UV={uv}").stdout
    assert "--no-deps -r requirements.lock" in steps
    assert ("uv venv" in steps) == bool(uv)
    assert ("-m venv" in steps) != bool(uv)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("demo",), "tidings demo"),
        (("demo", "DATA=a folder"), "tidings demo --data 'a folder'"),
        (("demo", "GIT=https://example.org/a.git"), "tidings demo --git 'https://example.org/a.git'"),
        (("test", "TESTS=tests/unit"), "pytest tests/unit"),
        (
            ("judge", "JUDGE=j.py", "DATA=d"),
            "'j.py' ranking 'd' --kind articles --start 2016-10-03 --weeks 8 --tidings .venv/bin/tidings",
        ),
        (("judge", "JUDGE=j.py", "DATA=d"), "'j.py' send-times 'd' --tidings .venv/bin/tidings"),
    ],
)
def test_arguments_reach_the_command(arguments: tuple[str, ...], command: str) -> None:
    assert any(" ".join(line.split()).endswith(command) for line in make(*arguments).stdout.splitlines())


def test_demo_exit_reaches_the_command_as_a_variable(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("include " + str(ROOT / "Makefile") + "\nshow:\n\t@echo DEMO_EXIT=$$DEMO_EXIT\n")
    assert _run(tmp_path, "show", "DEMO_EXIT=1").stdout.strip() == "DEMO_EXIT=1"


def test_judging_without_a_judge_says_what_is_needed(tmp_path: Path) -> None:
    run = _run(tmp_path, "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", "judge", "JUDGE=", "DATA=")
    assert run.returncode != 0
    assert "JUDGE=path" in run.stderr
