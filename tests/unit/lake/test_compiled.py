"""Compiled functions are kept for the next process, and work where they can not be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

from lake.compiled import compiled

MODULE = "from lake.compiled import compiled\n\ndouble = compiled(lambda number: number * 2)\n"
KEPT = """
from doubling import double
print(double(21), sum(double.stats.cache_hits.values()))
"""


def run(program: str, folder: Path) -> str:
    (folder / "doubling.py").write_text(MODULE)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not ran.stderr
    return ran.stdout.strip()


def test_what_was_compiled_is_kept_for_the_next_process(tmp_path: Path) -> None:
    assert run(KEPT, tmp_path) == "42 0"
    assert run(KEPT, tmp_path) == "42 1"


def test_where_nothing_can_be_kept_each_process_compiles_for_itself() -> None:
    made: dict[str, Any] = {}
    exec("def double(number): return number * 2", made)  # of no file, so that there is no folder to keep anything in
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(made["double"], cache=True)
    assert compiled(made["double"])(21) == 42
