"""`tidings switch` against a real store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from lake.redis_switches import RedisSwitches
from scheduler.redis_stores import RedisStores
from tidings import cli


@pytest.fixture
def run(redis_client: Redis, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a `tidings switch` command on the test's store and returns its result."""
    monkeypatch.setenv("REDIS_URL", embedded_store)
    return lambda *arguments: CliRunner().invoke(cli.app, ["switch", *arguments])


def test_what_is_off_is_listed_with_its_reason_until_it_is_on(run: Any, redis_client: Redis, embedded_store: str) -> None:
    RedisStores.open(embedded_store)
    assert "nothing is off" in run("list").stdout
    assert run("off", "channel:push", "--reason", "the vendor is down").exit_code == 0
    (name, row) = next(iter(json.loads(run("list", "--json").stdout)["off"].items()))
    assert (name, row["reason"]) == ("channel:push", "the vendor is down")
    assert set(RedisSwitches(redis_client).off()) == {"channel:push"}
    assert json.loads(run("on", "channel:push", "--json").stdout) == {"on": "channel:push", "was_off": True}
    assert "as it was" in run("on", "channel:push").stdout


def test_what_cannot_be_switched_is_refused_and_changes_nothing(run: Any, redis_client: Redis, embedded_store: str) -> None:
    RedisStores.open(embedded_store)
    refused = run("off", "channel:fax")
    assert refused.exit_code == 2
    assert "in_app" in refused.stderr
    assert RedisSwitches(redis_client).off() == {}
