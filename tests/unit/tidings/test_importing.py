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
