"""Importing real tables and real histories."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset

ROOT = Path(__file__).parents[2]


def tidings_import(*arguments: str | Path) -> dict[str, Any]:
    """Run `tidings import` as a person would and return its report."""
    command = [sys.executable, "-c", "from tidings.cli import main; main()", "import", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("name", ["deskdrop", "patch_reviews", "git_activity"])
def test_real_tables_come_through_whole(tidings_data: Path, tmp_path: Path, name: str) -> None:
    source = tidings_data / name
    report = tidings_import(source, "--into", tmp_path / "out")
    theirs = {path.stem: pd.read_parquet(path) for path in source.glob("*.parquet")}
    assert report["rows"] == {table: len(frame) for table, frame in theirs.items()}
    assert report["dropped"] == {}
    ours = Dataset.load(tmp_path / "out").tables
    for table, frame in theirs.items():
        for column in frame.columns.difference(["topics"]):
            assert sorted(ours[table][column].dropna().tolist()) == sorted(frame[column].dropna().tolist()), (table, column)


def test_topics_of_real_items_stay_with_their_items(tidings_data: Path) -> None:
    theirs = pd.read_parquet(tidings_data / "patch_reviews" / "items.parquet").set_index("item_id")["topics"]
    ours = Dataset.load(tidings_data / "patch_reviews").items.set_index("item_id")["topics"]
    assert theirs.map(list).to_dict() == ours.reindex(theirs.index).to_dict()


def test_real_history_up_to_a_moment_holds_nothing_later(tidings_data: Path) -> None:
    until = pd.Timestamp("2016-10-03", tz="UTC")
    data = Dataset.load(tidings_data / "patch_reviews", until)
    whole = pd.read_parquet(tidings_data / "patch_reviews" / "events.parquet")
    assert len(data.events) == (whole["at"] < until).sum() > 0
    assert data.items["created_at"].max() < until
    assert data.sends["engaged_at"].max() < until


def test_the_history_of_this_very_repository_is_imported(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the source has no .git folder")
    report = tidings_import(ROOT, "--into", tmp_path / "out")
    assert report["formats"] == ["git"]
    data = Dataset.load(tmp_path / "out")
    assert "lake" in set(data.items["topics"].explode())
    assert not any(data.users["user_id"].str.contains("@"))


@pytest.mark.parametrize("extension", ["parquet", "csv", "ndjson"])
def test_a_long_table_comes_through_whole_whatever_its_format(tmp_path: Path, extension: str) -> None:
    source = tmp_path / f"events.{extension}"
    write_events(source, rows=100_000)
    report = tidings_import(source, "--into", tmp_path / "out")
    assert report["rows"]["events"] == 100_000
    assert report["rows_per_s"] > 0
    assert Dataset.load(tmp_path / "out").events["event_id"].nunique() == 100_000


def write_events(path: Path, rows: int) -> None:
    """Write made-up events with an id each."""
    draw = np.random.default_rng(7)
    at = pd.to_datetime(draw.integers(1_400_000_000, 1_450_000_000, rows), unit="s", utc=True)
    events = pd.DataFrame(
        {
            "user_id": pd.Series(draw.integers(0, 50_000, rows)).astype(str).radd("user-"),
            "item_id": pd.Series(draw.integers(0, 90_000, rows)).astype(str).radd("item-"),
            "kind": draw.choice(["view", "like", "share"], rows),
            "at": at,
            "event_id": pd.Series(range(rows)).astype(str).radd("event-"),
        }
    )
    if path.suffix == ".parquet":
        events.to_parquet(path, index=False)
        return
    events["at"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    if path.suffix == ".csv":
        events.to_csv(path, index=False)
    else:
        events.to_json(path, orient="records", lines=True)


def test_a_long_git_history_comes_through_whole(tmp_path: Path) -> None:
    write_history(tmp_path / "clone.git", commits=2_000)
    report = tidings_import(tmp_path / "clone.git", "--into", tmp_path / "out")
    assert report["rows"]["items"] == 2_000


def write_history(folder: Path, commits: int) -> None:
    """Write a made-up history of a tree of 2,880 files, with trailers as kernel developers write them."""
    draw = random.Random(7)
    paths = [f"{top}/part{part}/file{number}.c" for top in ("drivers", "fs", "net") for part in range(30) for number in range(32)]
    stream = []
    for number in range(commits):
        person = draw.randrange(400)
        trailers = "\n".join(f"{key}: P <p{draw.randrange(400)}@example.org>" for key in ("Reviewed-by", "Cc"))
        message = f"part: change {number}\n\nWhy.\n\n{trailers}"
        stream.append(f"commit refs/heads/main\nauthor P <p{person}@example.org> {1_500_000_000 + number * 600} +0100\n")
        stream.append(f"committer C <c@example.org> {1_500_000_000 + number * 600} +0000\ndata {len(message)}\n{message}\n")
        stream.extend(f"M 100644 inline {path}\ndata {len(str(number))}\n{number}\n" for path in draw.sample(paths, 3))
    subprocess.run(["git", "init", "-q", "-b", "main", "--bare", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet"], input="".join(stream).encode(), check=True)
