"""`tidings models`: what a person sees of a registry, and how a refusal reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lake.history import History
from ranking import bundle as bundles
from ranking.calibration import Calibration
from ranking.opt_out import OptOut
from ranking.registry import Registry
from tests.unit.ranking.models import booster, write_bundle
from tests.unit.ranking.worlds import world
from tidings import running
from tidings.cli import app

NOW = 1_700_000_000.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path))
    monkeypatch.setattr(bundles, "verify", lambda folder: bundles.load(folder, verified=True))
    monkeypatch.setattr("tidings.models._now", lambda: NOW)
    Registry(tmp_path / "models").install(Registry(tmp_path / "models").add(write_bundle(tmp_path / "first")), 1.0)
    return tmp_path


def tell(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["models", *words, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def live(home: Path, challenger: str, shift: float) -> None:
    """Live rows of 200 choices among 8 that both models scored, and what users engaged with, which either model could know."""
    serving, random = Registry(home / "models").standing().serving, np.random.default_rng(0)
    n, at = 1600, pd.Timestamp(NOW - 5 * 86400, unit="s", tz="UTC")
    truth = random.normal(-2, 1, n)
    user, item = np.repeat(np.arange(200), 8), np.tile(np.arange(8), 200)
    rows = pd.DataFrame({"user_key": [f"k{i}" for i in user], "item_id": [f"i{i}" for i in item], "at": at, "channel": "in_app"})
    seen = {name: truth + 0.1 * random.normal(size=n) for name in ("serving", "challenger")}
    scores = {"serving": 1 / (1 + np.exp(-seen["serving"])), "challenger": 1 / (1 + np.exp(-seen["challenger"] - shift))}
    history = History(str(home / "history"))
    history.write("shadow", rows.assign(serving_id=serving, challenger_id=challenger, **scores), at="at", shard=0, name="a")
    engaged = random.random(n) < scores["serving"]
    happened = rows.loc[engaged, ["user_key", "item_id"]].assign(kind="view", at=at + pd.Timedelta(hours=1))
    history.write("events", happened, at="at", shard=0, name="a")


def test_a_challenger_that_does_as_well_live_is_promoted_and_rolled_back(home: Path) -> None:
    first = tell("list")["serving"]
    second = tell("add", str(write_bundle(home / "second", 1)), "--challenge")["model_id"]
    assert {model["model_id"]: model["role"] for model in tell("list")["models"]} == {first: "serving", second: "challenger"}
    live(home, second, shift=0.0)
    compared = tell("compare", second[:8])
    assert compared["passed"]
    assert compared["rank_agreement"] > 0.9
    assert (compared["rows"], compared["rows_with_outcome"]) == (1600, 1600)
    assert tell("promote", second[:8])["serving"] == second
    assert tell("rollback") == {"serving": first, "before": second}


def test_a_challenger_whose_scores_drifted_is_refused_and_told_by_how_much(home: Path) -> None:
    second = tell("add", str(write_bundle(home / "second", 1)))["model_id"]
    live(home, second, shift=1.0)
    done = CliRunner().invoke(app, ["models", "promote", second])
    said = " ".join(done.output.split())
    assert done.exit_code == 2
    assert f"{second} is not promoted" in said
    assert "drift: PSI" in said
    assert "above the 0.2 allowed" in said
    assert "metric:" not in said
    assert "allow it with --most-psi " in said
    assert tell("promote", second, "--most-psi", said.split("--most-psi ")[1])["serving"] == second
    tell("rollback")
    assert tell("promote", second, "--most-psi", "9")["serving"] == second


def test_without_evidence_nothing_is_promoted_and_both_gates_say_what_they_lack(home: Path) -> None:
    second = tell("add", str(write_bundle(home / "second", 1)))["model_id"]
    said = " ".join(CliRunner().invoke(app, ["models", "promote", second]).output.split())
    assert "0 rows were scored by both, and it takes 1000" in said
    assert "0 choices have a right answer" in said
    assert f"`tidings models challenge {second}`" in said
    assert "--data" in said


def test_ids_are_shown_whole_where_the_terminal_is_narrow(home: Path) -> None:
    second = tell("add", str(write_bundle(home / "second", 1)))["model_id"]
    assert second in CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "40"}).output


def tables(home: Path) -> Path:
    """A folder of tables that go on for two months after the models' training."""
    folder = home / "tables"
    folder.mkdir()
    for name, frame in world(2, users=40, items=200, events=5000).tables.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def challenger(home: Path, seed: int = 0, until: float = 1.0) -> str:
    """A model that promises what that of `write_bundle` with the same seed does, at another risk; trained until `until` (seconds)."""
    curve = Calibration(np.array([-1.0, 1.0]), np.array([-2.0, 0.5]))
    bundles.write(home / "second", booster(seed), curve, {}, bundles.Window(0.0, until), 3.0, opt_out=OptOut(0.001))
    model_id: str = tell("add", str(home / "second"))["model_id"]
    return model_id


def test_a_challenger_is_promoted_on_tables_alone_where_it_ranks_what_came_later_as_well(home: Path) -> None:
    first, second, folder = tell("list")["serving"], challenger(home), str(tables(home))
    compared = tell("compare", second, "--data", folder)
    assert compared["rows"] == compared["rows_with_outcome"] > 1000
    promoted = tell("promote", second, "--data", folder)
    assert (promoted["serving"], promoted["before"], promoted["passed"]) == (second, first, True)
    assert {gate["gate"]: gate["figure"] for gate in promoted["gates"]}["metric"] == 0
    assert tell("list")["serving"] == second


def test_a_challenger_that_scores_tables_otherwise_is_refused(home: Path) -> None:
    first, second = tell("list")["serving"], challenger(home, seed=1)
    done = CliRunner().invoke(app, ["models", "promote", second, "--data", str(tables(home))])
    assert done.exit_code == 2
    assert "drift: PSI" in " ".join(done.output.split())
    assert tell("list")["serving"] == first


def test_tables_that_a_model_was_trained_on_are_no_evidence(home: Path) -> None:
    second = challenger(home, until=NOW + 365 * 86400)
    done = CliRunner().invoke(app, ["models", "promote", second, "--data", str(tables(home))])
    assert done.exit_code == 2
    assert "0 rows were scored by both" in " ".join(done.output.split())


def test_up_serves_the_bundle_it_is_given_from_the_registry_and_goes_on_with_what_served_last(home: Path) -> None:
    ours = Registry(home / "models")
    first, other = ours.standing().serving, write_bundle(home / "second", 1)
    assert running._model(None, None) == ours.folder
    assert ours.standing().serving == first
    assert running._model(other, None) == ours.folder
    second = ours.standing().serving
    assert (ours.standing().previous, second) == ((first,), bundles.about(other).model_id)
    assert running._model(ours.folder, None) == ours.folder.resolve()
    assert ours.standing().serving == second
    with pytest.raises(bundles.BundleError, match="there is no such model folder"):
        running._model(home / "none", None)
