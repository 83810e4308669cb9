"""`tidings deadletters` against a real store."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from delivery.outbox import Outcome
from delivery.redis_outbox import RedisOutbox
from lake.keys import Keys
from lake.messages import FIELD
from lake.meta import Meta
from lake.redis_store import open_meta
from tests.unit.delivery.examples import NOW, a_message
from tidings import cli

META = Meta(shards=2)
Run = Callable[..., Result]


@pytest.fixture
def outbox(redis_client: Redis) -> RedisOutbox:
    """An outbox with a dead letter in each of its two shards."""
    open_meta(redis_client, META)
    outbox = RedisOutbox(redis_client, META.keys)
    for shard, channel in enumerate(("email", "webhook")):
        redis_client.xadd(META.keys.of_shard(Keys.OUTBOX, shard), {FIELD: a_message(shard + 1, channel=channel).pack()})
        (entry,) = outbox.read(shard, "a", 10, NOW, 1000)
        outbox.settle(shard, [Outcome(entry, "failed", f"550 [bold]no {shard}", dead=True)], NOW + shard)
    return outbox


@pytest.fixture
def run(outbox: RedisOutbox, embedded_store: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("REDIS_URL", embedded_store)
    return lambda *arguments: CliRunner().invoke(cli.app, ["deadletters", *arguments])


def names(run: Run, *arguments: str) -> list[str]:
    return [letter["name"] for letter in json.loads(run("list", "--json", *arguments).stdout)["letters"]]


def test_letters_are_listed_newest_first_and_can_be_chosen(run: Run) -> None:
    first, second = names(run)
    assert (first[0], second[0]) == ("1", "0")
    assert names(run, "--limit", "1") == [first]
    assert names(run, "--channel", "email") == [second]
    assert names(run, "--user", "u2") == [first]
    assert "550 [bold]no 0" in run("list").stdout


def test_one_letter_is_shown_in_full(run: Run) -> None:
    (name,) = names(run, "--channel", "email")
    shown = json.loads(run("show", name, "--json").stdout)
    assert (shown["decision_id"], shown["grant_id"], shown["reason"]) == ("d1", a_message(1).grant_id, "550 [bold]no 0")


def test_a_replayed_letter_is_back_in_the_outbox(run: Run, outbox: RedisOutbox) -> None:
    (name,) = names(run, "--channel", "email")
    assert json.loads(run("replay", name, "--json").stdout) == {"replayed": 1, "missing": []}
    assert [entry.message for entry in outbox.read(0, "a", 10, NOW, 1000)] == [a_message(1)]
    assert "no such letter" in run("replay", name).stdout
    assert len(names(run)) == 1


def test_all_letters_can_be_replayed_or_dropped(run: Run, outbox: RedisOutbox) -> None:
    assert json.loads(run("drop", "--all", "--channel", "webhook", "--json").stdout)["dropped"] == 1
    assert json.loads(run("replay", "--all", "--json").stdout)["replayed"] == 1
    assert run("list").stdout.strip() == "no dead letters"
    assert [backlog.total for backlog in outbox.backlog([0, 1])] == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["replay"], "name the letters"),
        (["replay", "0/1-0", "--all"], "name the letters"),
        (["drop", "0/1-0", "--channel", "email"], "leave them out"),
        (["replay", "nonsense"], "does not name a dead letter"),
        (["replay", "7/1-0"], "does not name a dead letter"),
        (["drop", "0/$"], "does not name a dead letter"),
        (["show", "0/1-0"], "no dead letter"),
    ],
)
def test_wrong_use_says_what_is_wrong(run: Run, arguments: list[str], problem: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())
