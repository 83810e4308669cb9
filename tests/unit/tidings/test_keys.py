"""`tidings keys` against a real store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from gateway.api_keys import login_token, split_token
from gateway.redis_api_keys import RedisApiKeys
from tidings import cli


@pytest.fixture
def run(redis_client: Redis, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a `tidings keys` command on the test's store and returns its result."""
    monkeypatch.setenv("REDIS_URL", embedded_store)
    return lambda *arguments: CliRunner().invoke(cli.app, ["keys", *arguments])


def test_a_new_key_is_printed_once_and_only_its_hash_is_kept(run: Any, redis_client: Redis) -> None:
    result = run("new", "--scope", "urgent, events,urgent:critical", "--name", "shop", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["scopes"] == ["urgent", "events", "urgent:critical"]
    parts = split_token(report["key"])
    assert parts is not None
    kept = RedisApiKeys(redis_client).get(parts[0])
    assert kept is not None
    assert kept.opens(parts[1], kept.created_at)
    assert parts[1] not in run("list").stdout + run("list", "--json").stdout


def test_the_key_is_alone_on_stdout_for_a_shell_to_take(run: Any) -> None:
    done = run("new", "--scope", "read")
    assert done.stdout.startswith("tk_")
    assert len(done.stdout.split()) == 1
    assert "not shown again" in done.stderr


def test_keys_are_listed_without_login_links(run: Any, redis_client: Redis) -> None:
    assert "no keys" in run("list").stdout
    run("new", "--scope", "read", "--name", "mine", "--days", "1")
    login_token(RedisApiKeys(redis_client), 4e9)
    (listed,) = json.loads(run("list", "--json").stdout)["keys"]
    assert (listed["name"], listed["scopes"]) == ("mine", ["read"])
    assert listed["expires_at"] > listed["created_at"]
    assert "mine" in run("list").stdout


def test_a_revoked_key_is_gone_and_an_unknown_one_is_bad_input(run: Any) -> None:
    key_id = json.loads(run("new", "--scope", "read", "--json").stdout)["id"]
    assert run("revoke", key_id).exit_code == 0
    again = run("revoke", key_id)
    assert again.exit_code == 2
    assert key_id in again.stderr


def test_a_key_keeps_its_own_quota_of_critical_sends(run: Any, redis_client: Redis) -> None:
    report = json.loads(run("new", "--scope", "urgent:critical", "--critical-quota", "5", "--json").stdout)
    assert report["critical_quota"] == 5
    kept = RedisApiKeys(redis_client).get(report["id"])
    assert kept is not None
    assert kept.critical_quota == 5
    assert run("new", "--scope", "urgent:critical", "--critical-quota", "-1").exit_code == 2


def test_a_key_keeps_its_own_rate_and_what_is_none_makes_no_key(run: Any, redis_client: Redis) -> None:
    report = json.loads(run("new", "--scope", "urgent", "--rate", "100/minute", "--json").stdout)
    assert report["rate"] == "100/minute"
    kept = RedisApiKeys(redis_client).get(report["id"])
    assert kept is not None
    assert kept.rate == "100/minute"
    bad = run("new", "--scope", "urgent", "--rate", "often")
    assert bad.exit_code == 2
    assert "100/minute" in bad.stderr.replace("\n", " ")
    assert len(json.loads(run("list", "--json").stdout)["keys"]) == 1


@pytest.mark.parametrize("scope", ["admin", "", "urgent,admin", "login"])
def test_an_unknown_scope_is_bad_input_and_no_key_is_made(run: Any, scope: str) -> None:
    result = run("new", "--scope", scope)
    assert result.exit_code == 2
    assert "urgent:critical" in result.stderr.replace("\n", " ")
    assert json.loads(run("list", "--json").stdout) == {"keys": []}


def test_without_a_store_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    result = CliRunner().invoke(cli.app, ["keys", "list"])
    assert result.exit_code == 1
    assert "does not answer" in result.stderr.replace("\n", " ")
