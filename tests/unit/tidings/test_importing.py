"""`tidings import`: one result on stdout, bad input as a message and exit code 2, and a key that is never written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.errors import InputError
from lake.importers import IMPORTERS
from tidings.cli import app
from tidings.importing import KEY_VARIABLE, Format, hash_key

EVENTS = "user_id,item_id,kind,at\na,i,view,2024-01-02T00:00:00Z\nb,i,like,2024-01-01T00:00:00Z\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "events.csv"
    path.parent.mkdir()
    path.write_text(EVENTS)
    return path


def test_the_report_is_one_json_object(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["import", str(source), "--into", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["rows"] == {"events": 2}
    assert report["derived"] == {"users": 2, "items": 1}
    assert report["dropped"] == {}
    assert report["rows_per_s"] > 0


def test_the_summary_has_a_line_per_table(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["import", str(source), "--into", str(tmp_path / "out"), "--format", "tables"])
    assert result.exit_code == 0
    assert "rows: events" in result.stdout
    assert "derived: items" in result.stdout


def test_a_wrong_row_ends_with_its_place_and_code_2(source: Path, tmp_path: Path) -> None:
    source.write_text(EVENTS + "c,i,view,2024-01-02T00:00:00\n")
    result = CliRunner().invoke(app, ["import", str(source.parent), "--into", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{source}: table events, column at, row 3: '2024-01-02T00:00:00' has no time zone" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_mistakes_of_all_columns_and_files_are_told_at_once(source: Path, tmp_path: Path, one_by_one: bool) -> None:
    items, users = source.parent / "items.csv", source.parent / "users.csv"
    source.write_text(EVENTS + ",i,view,2024-01-02T00:00:00\n")
    items.write_text("item_id,created_at,latitude,longitude\ni,02/01/2024,abc,3\n")
    users.write_text("user_id,timezone\na,Europe/Paris\na,Europe/Paris\n")
    sources = [str(path) for path in (source, items, users)] if one_by_one else [str(source.parent)]
    result = CliRunner().invoke(app, ["import", *sources, "--into", str(tmp_path / "out")])
    assert result.exit_code == 2
    told = ("events, column user_id, row 3", "events, column at, row 3", "items, column created_at, row 1", "items, column latitude, row 1")
    assert [place for place in (*told, "users, column user_id, row 2") if f"table {place}: " not in result.stderr] == []
    assert len(result.stderr.splitlines()) == 5


def test_it_tells_when_events_begin_and_end_and_of_which_kinds_they_are(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["import", str(source), "--into", str(tmp_path / "out")])
    assert "2024-01-01T00:00Z to 2024-01-02T00:00Z" in result.stdout
    assert "like 1, view 1" in result.stdout
    assert "note" not in result.stderr


def test_slips_that_are_no_errors_are_pointed_out(source: Path, tmp_path: Path) -> None:
    source.write_text(EVENTS + "c,i,view,2999-01-02T00:00:00Z\n")
    (source.parent / "users.csv").write_text("user_id,timezon,plan\na,Europe/Paris,pro\n")
    result = CliRunner().invoke(app, ["import", str(source.parent), "--into", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["notes"] == [
        "events: 1 lie in the future, the last at 2999-01-02T00:00Z; are their times in UTC or with their offset?",
        "users: Tidings knows no column timezon, which is only kept; is timezone meant?",
        "users: only kept, as Tidings does not know them: plan",
    ]


@pytest.mark.parametrize("arguments", [[], ["in"], ["--into", "out"], ["in", "--into", "out", "--format", "xml"]])
def test_wrong_usage_ends_with_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["import", *arguments]).exit_code == 2


def test_every_importer_can_be_named() -> None:
    assert {format_.value for format_ in Format} == {"auto", *IMPORTERS}


def test_the_key_comes_from_the_file_else_the_environment_else_it_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert hash_key(None) != hash_key(None)
    monkeypatch.setenv(KEY_VARIABLE, "e" * 16)
    assert hash_key(None) == b"e" * 16
    (tmp_path / "key").write_text("f" * 16 + "\n")
    assert hash_key(tmp_path / "key") == b"f" * 16


def test_a_key_that_can_be_guessed_or_not_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(InputError, match="6 bytes can be guessed"):
        hash_key(None)
    with pytest.raises(InputError, match="cannot be read"):
        hash_key(tmp_path / "nowhere")
