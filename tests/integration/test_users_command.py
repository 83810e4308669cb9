"""`tidings users` against a real store with nothing else up, and what a rewritten append-only file means."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from gateway.redis_user_rows import RedisUserRows
from lake.embedded import EmbeddedStore
from lake.keys import Keys
from lake.meta import Meta
from lake.profiles import blank
from lake.redis_rewriting import rewrite_log, rewrite_stream
from lake.redis_store import open_meta
from scheduler.redis_stores import RedisStores
from tidings import cli


@pytest.fixture
def run(redis_client: Redis, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a `tidings users` command on the test's store, which knows Ada, and returns its result."""
    monkeypatch.setenv("REDIS_URL", embedded_store)
    stores = RedisStores(redis_client, open_meta(redis_client, Meta(shards=4)))
    stores.profiles.put(["ada"], blank(1))
    RedisUserRows(redis_client, stores.meta.keys).put("ada", {"nickname": "Countess"})
    return lambda *arguments: CliRunner().invoke(cli.app, ["users", *arguments])


def test_an_export_goes_to_a_file_that_only_this_account_may_read(run: Any, tmp_path: Path) -> None:
    result = run("export", "ada", "--out", str(tmp_path / "ada.json"))
    assert result.exit_code == 0, result.output
    assert "Countess" not in result.output
    assert json.loads((tmp_path / "ada.json").read_text())["row"] == {"nickname": "Countess"}
    assert stat.S_IMODE((tmp_path / "ada.json").stat().st_mode) == 0o600


def test_an_export_that_cannot_be_written_and_one_of_nobody_are_bad_input(run: Any, tmp_path: Path) -> None:
    nowhere = run("export", "ada", "--out", str(tmp_path / "missing" / "ada.json"))
    assert nowhere.exit_code == 2
    assert "missing/ada.json" in nowhere.stderr.replace("\n", "")
    nobody = run("export", "nobody")
    assert nobody.exit_code == 2
    assert "nothing is held about 'nobody'" in nobody.stderr


def test_an_erasure_says_what_it_removed_and_erasing_again_finds_nothing(run: Any) -> None:
    removed = json.loads(run("erase", "ada", "--json").stdout)["removed"]
    assert (removed["profile"], removed["keys"]) == (1, 3)
    again = run("erase", "ada", "--json")
    assert again.exit_code == 0
    assert set(json.loads(again.stdout)["removed"].values()) <= {0, 2}  # what erasing itself writes: that nothing is followed
    assert "rewritten" in run("erase", "ada").stdout


def test_a_store_that_is_away_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    for command in ("export", "erase"):
        result = CliRunner().invoke(cli.app, ["users", command, "ada"])
        assert result.exit_code == 1
        assert "does not answer" in result.output
        assert "hunter2" not in result.output


def test_a_rewrite_of_the_append_only_file_waits_for_one_that_began_earlier(redis_client: Redis) -> None:
    before: Any = redis_client.info("persistence")
    redis_client.bgrewriteaof()
    assert rewrite_log(redis_client, wait=True) == "rewritten"
    state: Any = redis_client.info("persistence")
    assert (state["aof_rewrite_in_progress"], state["aof_rewrite_scheduled"]) == (0, 0)
    assert state["aof_rewrites"] == before["aof_rewrites"] + 2


def test_a_store_without_an_append_only_file_has_none_to_rewrite(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        client.config_set("appendonly", "no")
        assert rewrite_log(client, wait=True) == "off"


def test_a_stream_written_anew_goes_on_where_it_was(redis_client: Redis) -> None:
    name = Keys(4).of_shard("some", 1)
    ids: list[bytes] = [redis_client.xadd(name, {"n": number}) for number in range(5)]  # type: ignore[misc]
    redis_client.xdel(name, ids[4])
    assert rewrite_stream(redis_client, name, [ids[1].decode()]) == 1
    kept: Any = redis_client.xrange(name)
    assert [entry for entry, _ in kept] == [ids[0], ids[2], ids[3]]
    about: Any = redis_client.xinfo_stream(name)
    assert about["last-generated-id"] == ids[4]
    assert rewrite_stream(redis_client, name, [entry.decode() for entry in ids]) == 3
    assert not redis_client.exists(name)
    assert rewrite_stream(redis_client, name) == 0
