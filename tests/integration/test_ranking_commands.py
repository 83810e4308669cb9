"""`tidings train` and `tidings score`, from tables to scores and from bad input to a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ranking import bundle as bundles
from tests.unit.ranking.models import write_bundle
from tests.unit.ranking.worlds import DAYS, START, world
from tidings import bench_light, bench_score
from tidings.cli import app

UNTIL = START + pd.Timedelta(days=DAYS - 10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "data"
    world(5, users=40, items=200, events=5000).save(folder)
    return folder


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    folder = data.parent / "model"
    run = CliRunner().invoke(app, ["train", "--data", str(data), "--until", UNTIL.isoformat(), "--model", str(folder), "--json"])
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)
    assert report["model_id"] == bundles.load(folder, verified=True).model_id
    assert report["validation"]["ndcg_at_5"] > 0
    return folder


def test_training_leaves_its_report_beside_the_model_as_a_page_and_as_json(model: Path) -> None:
    report, page = json.loads((model / "report.json").read_text()), (model / "report.html").read_text()
    assert report["model_id"] in page
    assert report["validation"]["baselines"].keys() == {"random", "popular", "newest"}
    assert str(report["validation"]["ndcg_at_5"]) in page


def test_light_then_heavy_is_measured_beside_the_heavy_model_alone_and_a_limit_too_low_shows(data: Path, model: Path) -> None:
    crowd = bench_light.Crowd(users=30, candidates=120, most_per_user=119)
    nearly_all = bench_light.run(crowd, data=data, model=model, rounds=1)
    too_few = bench_light.run(replace(crowd, most_per_user=3), data=data, model=model, rounds=1)
    assert (nearly_all["candidates_per_user"], too_few["most_per_user"]) == (120, 3)
    assert nearly_all["same_top_n"] > 0.9 > too_few["same_top_n"]
    assert 1 >= nearly_all["value_kept"] > too_few["value_kept"] > too_few["value_kept_of_worst"] > 0
    for report in (nearly_all, too_few):
        assert report["ratio"] == pytest.approx(report["candidates_per_s"] / report["peer_candidates_per_s"], rel=0.01)


def test_scoring_a_file_is_measured_beside_the_prediction_of_its_rows_alone(data: Path, model: Path) -> None:
    report = bench_score.run(bench_score.Candidates(rows=20_000, days=5, items=50), data=data, model=model, rounds=1)
    assert report["rows"] == 20_000
    assert report["features_alone_s"] > 0
    least, most = report["peer_s"] - 0.001, report["peer_s"] + 0.001  # figures are told to the millisecond
    assert (report["seconds"] - 0.001) / most <= report["ratio"] <= (report["seconds"] + 0.001) / max(least, 1e-9)


def candidates(folder: Path, name: str = "c.parquet", **columns: object) -> Path:
    frame = pd.DataFrame({"user_id": ["u1", "u2", "new"], "item_id": ["i3", "fresh", "i9"], "channel": "in_app", "at": UNTIL} | columns)
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith(".csv") else frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("extension", ["parquet", "csv", "ndjson"])
def test_candidates_get_a_probability_and_a_score_each_in_their_order(data: Path, model: Path, tmp_path: Path, extension: str) -> None:
    out = tmp_path / f"scores.{extension}"
    source = candidates(tmp_path, "c.csv" if extension == "csv" else "c.parquet", note=["x", "y", "z"])
    run = CliRunner().invoke(app, ["score", "--data", str(data), "--model", str(model), "--candidates", str(source), "--out", str(out)])
    assert run.exit_code == 0, run.output
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        "parquet": pd.read_parquet,
        "csv": pd.read_csv,
        "ndjson": lambda path: pd.read_json(path, lines=True),
    }
    scored = readers[extension](out)
    assert scored["user_id"].tolist() == ["u1", "u2", "new"]
    assert scored["note"].tolist() == ["x", "y", "z"]
    assert np.isfinite(scored[["probability", "score"]]).all(axis=None)
    assert " ".join(run.stdout.split()).count("not in the data 1") == 2, "`new` and `fresh`"


def test_training_uses_nothing_at_or_after_the_given_moment(data: Path, model: Path, tmp_path: Path) -> None:
    tables = {path.stem: pd.read_parquet(path) for path in data.glob("*.parquet")}
    (tmp_path / "past").mkdir()
    for name, frame in tables.items():
        time = {"events": "at", "items": "created_at", "sends": "at"}.get(name)
        kept = frame if time is None else frame[frame[time] < UNTIL]
        kept.to_parquet(tmp_path / "past" / f"{name}.parquet", index=False)
    command = ["train", "--data", str(tmp_path / "past"), "--until", UNTIL.isoformat(), "--model", str(tmp_path / "model")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert bundles.load(tmp_path / "model", verified=True).model_id == bundles.load(model, verified=True).model_id


@pytest.mark.parametrize(
    ("until", "complaint"), [("2024-02-01", "has no time zone"), ("soon", "is not a time"), ("2024-01-03T00:00Z", "to learn from")]
)
def test_a_moment_that_cannot_be_used_ends_with_a_message_and_code_2(data: Path, tmp_path: Path, until: str, complaint: str) -> None:
    run = CliRunner().invoke(app, ["train", "--data", str(data), "--until", until, "--model", str(tmp_path / "m")])
    assert run.exit_code == 2
    assert complaint in run.output
    assert not (tmp_path / "m").exists()


def test_naive_times_missing_columns_and_no_model_end_with_a_message_and_code_2(data: Path, model: Path, tmp_path: Path) -> None:
    naive = candidates(tmp_path, "naive.parquet", at=UNTIL.tz_localize(None))
    bare = tmp_path / "bare.csv"
    bare.write_text("user_id,item_id\nu1,i1\n")
    good = candidates(tmp_path)
    for source, folder, complaint in (
        (naive, model, "no time zone"),
        (bare, model, "column channel"),
        (good, tmp_path / "none", "there is no such model folder"),
    ):
        command = ["score", "--data", str(data), "--model", str(folder), "--candidates", str(source), "--out", str(tmp_path / "o.parquet")]
        run = CliRunner().invoke(app, command)
        assert run.exit_code == 2
        assert complaint in " ".join(run.output.split())
    assert not (tmp_path / "o.parquet").exists()


def test_a_corrupted_model_never_scores(data: Path, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "model")
    content = bytearray((folder / bundles.MODEL).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / bundles.MODEL).write_bytes(content)
    source = candidates(tmp_path)
    command = ["score", "--data", str(data), "--model", str(folder), "--candidates", str(source), "--out", str(tmp_path / "o.csv")]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2
    assert "is not the file that was written" in " ".join(run.output.split())
