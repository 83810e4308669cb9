"""`tidings calibrate`: another curve in another folder, the same trees, and a window that says what was used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ranking import bundle as bundles
from ranking.features import FEATURES
from tests.unit.ranking.models import write_bundle
from tests.unit.ranking.worlds import DAYS, START, world
from tidings.cli import app

UNTIL = START + pd.Timedelta(days=DAYS)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(bundles, "verify", lambda folder: bundles.load(folder, verified=True))
    (tmp_path / "data").mkdir()
    for name, frame in world(2, users=40, items=200, events=5000).tables.items():
        frame.to_parquet(tmp_path / "data" / f"{name}.parquet", index=False)
    model = write_bundle(tmp_path / "model")
    return ["calibrate", "--data", str(tmp_path / "data"), "--until", UNTIL.isoformat(), "--model", str(model), "--json"]


def test_a_calibrated_model_ranks_the_same_and_counts_as_trained_until_then(command: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "fresh")])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    old, new = (bundles.load(tmp_path / name, verified=True) for name in ("model", "fresh"))
    assert (said["model_id"], said["of"]) == (new.model_id, old.model_id)
    assert new.window.until == UNTIL.timestamp()
    assert new.metrics["recalibrated"]["of"] == old.model_id
    rows = np.random.default_rng(0).normal(size=(50, len(FEATURES))).astype(np.float32)
    assert np.array_equal(old.margins(rows), new.margins(rows))
    assert not np.allclose(old.probabilities(rows), new.probabilities(rows))


def test_a_model_is_not_replaced_by_its_own_calibration(command: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "model")])
    assert done.exit_code == 2
    assert "is the model itself" in " ".join(done.output.split())
