"""History: what was written comes back, by date and narrowed, once however often it was written, until it is pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lake.history import History

DAY = pd.Timedelta(days=1)
NOON = pd.Timestamp("2024-03-04T12:00:00Z")


def rows(*days: float, **columns: list[str]) -> pd.DataFrame:
    at = pd.DatetimeIndex([NOON + day * DAY for day in days], tz="UTC").as_unit("us")
    return pd.DataFrame({"at": at, "n": range(len(days))}).assign(**columns)


@pytest.fixture(params=["path", "url"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """A history in a folder, named as a path or as a URL."""
    folder = tmp_path / "kept"
    return History(str(folder) if request.param == "path" else folder.as_uri())


def test_what_was_written_comes_back_whichever_shard_wrote_it(history: History) -> None:
    assert history.write("events", rows(0, 1), at="at", shard=0, name="a") == 2
    history.write("events", rows(0), at="at", shard=7, name="a")
    found = history.read("events", NOON.timestamp(), (NOON + DAY).timestamp())
    assert sorted(found["n"]) == [0, 0, 1]
    assert set(found["shard"]) == {0, 7}
    assert str(found["at"].dt.tz) == "UTC"


def test_a_table_that_was_never_written_is_empty(history: History) -> None:
    assert len(history.read("events", 0.0, NOON.timestamp())) == 0
    assert history.read("events", 0.0, 1.0, columns=["n"]).columns.tolist() == ["n"]


def test_reading_is_narrowed_to_dates_columns_and_conditions(history: History) -> None:
    history.write("events", rows(-2, -1, 0, 1, kind=["a", "b", "a", "b"]), at="at", shard=0, name="a")
    since, until = (NOON - DAY).timestamp(), NOON.timestamp()
    assert history.read("events", since, until, columns=["n"])["n"].tolist() == [1, 2]
    assert history.read("events", since, until, where=pc.field("kind") == "a")["n"].tolist() == [2]
    assert len(history.read("events", 0.0, 1e12)) == 4


def test_writing_again_under_the_same_name_replaces_and_under_another_adds(history: History) -> None:
    for name in ("a", "a", "b"):
        history.write("events", rows(0), at="at", shard=0, name=name)
    assert len(history.read("events", NOON.timestamp(), NOON.timestamp())) == 2


def test_a_file_that_is_being_written_is_not_read(history: History, tmp_path: Path) -> None:
    history.write("events", rows(0), at="at", shard=0, name="a")
    (tmp_path / "kept/events/date=2024-03-04/shard=0/.b.part").write_bytes(b"half a file")
    assert len(history.read("events", NOON.timestamp(), NOON.timestamp())) == 1


def test_two_that_file_the_same_at_once_stand_in_nobodys_way(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    write, others = pq.write_table, [rows(0), rows(0, 1)]

    def written_and_then(*table: Any, **options: Any) -> None:
        write(*table, **options)
        if others:
            frame = others.pop()
            history.file("events", frame, at="at", shard=0, first="1-0", last=f"{len(frame)}-0")

    monkeypatch.setattr(pq, "write_table", written_and_then)
    history.file("events", rows(0), at="at", shard=0, first="1-0", last="1-0")
    assert sorted(history.read("events", NOON.timestamp(), (NOON + DAY).timestamp())["n"]) == [0, 1]


def test_pruning_deletes_whole_dates_before_a_moment_and_nothing_else(history: History) -> None:
    history.write("events", rows(-3, -2, -1, 0), at="at", shard=0, name="a")
    history.write("decisions", rows(-3, 0), at="at", shard=0, name="a")
    assert history.prune((NOON - DAY).timestamp()) == 3
    assert history.read("events", 0.0, 1e12)["n"].tolist() == [2, 3]
    assert history.read("decisions", 0.0, 1e12)["n"].tolist() == [1]
    assert history.prune((NOON - DAY).timestamp()) == 0


def test_there_is_nothing_to_prune_where_nothing_was_ever_written(history: History) -> None:
    assert history.prune(NOON.timestamp()) == 0


def test_blanking_reaches_the_rows_it_is_told_of_and_nothing_else(history: History) -> None:
    history.write("events", rows(0, 1, 2, who=["a", "b", "a"], note=["x", "y", "z"]), at="at", shard=3, name="one")
    history.write("events", rows(0, who=["b"]), at="at", shard=3, name="two")
    history.write("events", rows(0, who=["a"], note=["elsewhere"]), at="at", shard=4, name="one")
    assert history.blank("events", 3, pc.field("who") == "a", lambda name: name == "note") == 2
    assert history.blank("never-written", 3, pc.field("who") == "a", lambda _: True) == 0
    schema = history.schema("events", 3)
    assert schema.names == ["at", "n", "who", "note"]
    found = history.read("events", 0.0, 4e9, schema=schema).sort_values(["shard", "at", "who"])
    assert found["note"].fillna("").tolist() == ["", "", "y", "", "elsewhere"]
    assert found["who"].tolist() == ["a", "b", "b", "a", "a"]


def test_a_shard_without_files_has_no_columns(history: History) -> None:
    assert history.schema("events", 3).names == []
