"""Who only predicts loads no scikit-learn, and can have it later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ranking import bundle as bundles
from tests.unit.ranking.models import write_bundle

LATER = """
import importlib.util
import sys
from pathlib import Path
from ranking import bundle as bundles
bundles._trial(Path(sys.argv[1]))
assert "sklearn" not in sys.modules
assert "scipy.stats" not in sys.modules
assert importlib.util.find_spec("sklearn") is not None
"""


def test_a_trial_loads_no_scikit_learn_and_leaves_it_to_be_had(tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", LATER, str(model)], check=False, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr


def test_the_same_bytes_are_tried_once_and_others_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_tried", set())
    tried: list[Path] = []
    monkeypatch.setattr(bundles, "_try", tried.append)
    first, second = write_bundle(tmp_path / "first", 0), write_bundle(tmp_path / "second", 1)
    for folder in (first, first, second, write_bundle(tmp_path / "copy", 0)):
        bundles.verify(folder)
    assert tried == [first, second]


def test_what_failed_its_trial_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_tried", set())
    tried: list[Path] = []

    def failing(folder: Path) -> None:
        tried.append(folder)
        raise bundles.BundleError("no")

    monkeypatch.setattr(bundles, "_try", failing)
    model = write_bundle(tmp_path / "model")
    for _ in range(2):
        with pytest.raises(bundles.BundleError):
            bundles.verify(model)
    assert tried == [model, model]
