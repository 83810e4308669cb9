"""Dry runs of windows, over HTTP and by `tidings window`, with the gateway in this process."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from redis import Redis
from rich.console import Console
from typer.testing import CliRunner

from gateway.app import create_app
from gateway.redis_api_keys import RedisApiKeys
from lake.decision_log import unpack
from lake.follows import Followed
from lake.profiles import blank
from tests.unit.gateway.conftest import META, NOW, World
from tests.unit.gateway.problems import problem_of
from tidings import cli, windowing


@pytest.fixture
def world(world: World) -> World:
    """A world in which ada follows the author of a new item."""
    world.profiles.put(["ada"], blank(1))
    world.follows.put(["ada"], [Followed(authors=("eve",))])
    world.items.put([{"item_id": "post", "created_at": NOW - 60, "author_id": "eve"}])
    return world


async def test_a_window_is_rehearsed_row_by_row_and_logged_as_dry(client: httpx.AsyncClient, world: World) -> None:
    answer = await client.post("/v1/windows/dry-run", json={"users": ["ada", "ada"]})
    assert answer.status_code == 200
    (row,) = answer.json()["results"]
    assert (row["user_id"], row["item_id"], row["channel"], row["source"]) == ("ada", "post", "in_app", "new_posts")
    assert row["disposition"] == "send"
    assert row["score"] is not None
    assert row["dry_run"]
    assert answer.json()["dry_run"]
    logged = unpack([entry for shard in range(META.shards) for entry in world.stream.read(shard, 10)])
    assert logged["dry"].tolist() == [True]
    assert logged["decision_id"].tolist() == [answer.json()["decision_id"]]


async def test_nobody_and_too_many_are_refused(client: httpx.AsyncClient) -> None:
    for users in ([], ["u"] * 101):
        assert problem_of(await client.post("/v1/windows/dry-run", json={"users": users}), 422)["errors"][0]["field"] == "users"


@pytest.fixture
def run(world: World, redis_client: Redis, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `tidings window` on the test's store, with a gateway that knows its keys."""
    monkeypatch.setenv("REDIS_URL", embedded_store)
    web = TestClient(create_app(world.services(api_keys=RedisApiKeys(redis_client))))

    def post(url: str, *, timeout: float, **request: Any) -> httpx.Response:
        answer: httpx.Response = web.post(url.removeprefix("http://gateway"), **request)
        return answer

    monkeypatch.setattr("tidings.windowing.httpx.post", post)
    return lambda *arguments: CliRunner().invoke(cli.app, ["window", *arguments])


def test_the_command_shows_what_would_be_sent(run: Any) -> None:
    told = run("--dry-run", "--user", "ada", "--url", "http://gateway")
    assert told.exit_code == 0, told.output
    assert "post" in told.stdout
    report = json.loads(run("--dry-run", "--user", "ada", "--url", "http://gateway", "--json").stdout)
    assert report["dry_run"]
    assert [row["disposition"] for row in report["results"]] == ["send"]
    assert "unknown_user" in run("--dry-run", "--user", "bob", "--url", "http://gateway").stdout


def test_whom_nobody_knows_takes_one_row_and_no_threshold_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"user_id": "ada", "item_id": "i1", "channel": "in_app", "disposition": "send", "reason": "above_threshold", "score": 0.25}
    lost = row | {"user_id": "bob", "disposition": "ineligible", "reason": "unknown_user", "score": None}
    rows = [row | {"threshold": -1e9}, *(lost | {"item_id": f"i{number}", "threshold": 0.5} for number in range(60))]
    Console().print(windowing._table(rows))
    shown = capsys.readouterr().out
    assert (shown.count("bob"), shown.count("ada"), "more rows" in shown) == (1, 1, False)
    assert "0.250" in shown
    assert "00000" not in shown


def test_without_dry_run_nothing_is_asked(run: Any) -> None:
    result = run("--user", "ada", "--url", "http://gateway")
    assert result.exit_code == 2
    assert "--dry-run" in result.stderr.replace("\n", " ")
