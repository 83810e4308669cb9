"""`tidings preview`, from tables and from a store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from lake.meta import Meta
from lake.profiles import blank
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_store import open_meta
from tidings.cli import app

ROOMS = """item_id,created_at,author_id,title,text,entity_id,version
r1,2026-01-01T10:00:00Z,bob,Jazz,Come in,room,0
r2,2026-01-01T11:00:00Z,Ella,Jazz,Come in,room,1
other,2026-01-01T11:00:00Z,Ella,Chess,,,
"""
USERS = "user_id,timezone,locale\nann,Europe/Vienna,de-AT\nbea,,\n"
EVENTS = "user_id,item_id,kind,at\nann,other,open,2026-01-01T12:00:00Z\n"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for name, rows in (("items", ROOMS), ("users", USERS), ("events", EVENTS)):
        (tmp_path / f"{name}.csv").write_text(rows)
    return tmp_path


def previewed(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


def test_a_preview_from_tables_reads_as_the_user_would_get_it(tables: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = previewed("--data", tables, "--item", "r2", "--user", "ann", "--html", page, "--json")
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.stdout)
    assert (report["title"], report["locale"], report["zone"]) == ("Ella und bob: Jazz", "de-AT", "Europe/Vienna")
    assert "Sie bekommen das" in report["plain"]
    assert page.read_text() == report["html"]


def test_a_locale_can_be_asked_for(tables: Path) -> None:
    shown = previewed("--data", tables, "--item", "other", "--user", "ann", "--locale", "pt-BR")
    assert "You get this because" in shown.stdout
    assert "pt-BR" in shown.stdout


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (["--item", "gone"], "there is no item 'gone'"),
        (["--user", "eve"], "there is no user 'eve'"),
        (["--channel", "pigeon"], "no channel 'pigeon'"),
        (["--locale", "123"], "'123' is no locale"),
    ],
)
def test_what_is_not_there_is_said(tables: Path, change: list[str], problem: str) -> None:
    shown = previewed("--data", tables, "--item", "r2", "--user", "ann", *change)
    assert shown.exit_code == 2
    assert problem in " ".join(shown.output.split())


def test_a_preview_from_the_store(redis_client: Redis, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", embedded_store)
    keys = open_meta(redis_client, Meta(shards=4)).keys
    profile = blank(1)
    profile["locale"] = np.bytes_(b"de")
    RedisProfileStore(redis_client, keys).put(["ann"], profile)
    RedisItemStore(redis_client, keys).put([{"item_id": "r1", "created_at": 0.0, "title": "Jazz"}])
    shown = previewed("--item", "r1", "--user", "ann")
    assert shown.exit_code == 0, shown.output
    assert "Jazz" in shown.stdout
    assert "Sie bekommen das" in shown.stdout
