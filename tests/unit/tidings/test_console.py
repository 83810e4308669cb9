"""What commands print, and where."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tidings.console import emit, facts, progress, say, step


def _shown(report: dict[str, object]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(facts(report))
    return capture.get()


def test_json_takes_what_numpy_and_pathlib_make(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"n": np.int64(3), "of": np.array([1.5, np.nan]), "into": Path("a/b")}, as_json=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"n": 3, "of": [1.5, None], "into": "a/b"}
    assert captured.err == ""


def test_facts_are_readable() -> None:
    shown = _shown(
        {"sends_per_user": 2.50001, "rows": 1_234_567, "held": False, "tables": ["events", "items"], "lift": float("inf"), "auc": None}
    )
    assert "None" not in shown
    for text in ("sends per user", "1,234,567", "no", "events, items", "unknown"):
        assert text in shown
    assert "log loss 0.0547, positives 1,305" in _shown({"before": {"log_loss": 0.05468, "positives": 1_305}})


def test_square_brackets_of_data_are_not_taken_for_markup() -> None:
    assert "[PATCH v2]" in _shown({"title": "[PATCH v2] mm: fix"})


def test_what_is_said_along_the_way_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bars, step("training"):
        bars.update(bars.add_task("reading", total=2), advance=1)
        say("half way")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "half way" in captured.err


def test_long_values_are_never_cut() -> None:
    console = Console(width=40)
    with console.capture() as capture:
        console.print(facts({"model": "x" * 60}))
    assert capture.get().count("x") == 60
