"""Erasing a user leaves nothing of theirs in the store but their wish not to be written to."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from typer.testing import CliRunner

from delivery.inbox import InboxEntry
from delivery.outbox import Outcome
from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from gateway.redis_erasure import KINDS, RedisErasure
from gateway.redis_exporting import export_of
from gateway.redis_user_rows import RedisUserRows
from gateway.users import UserBook
from lake.embedded import EmbeddedStore
from lake.follows import Followed
from lake.history import History
from lake.ids import shard_of, shards_of
from lake.keys import Keys
from lake.logs import formatter
from lake.messages import FIELD
from lake.meta import Meta
from lake.profiles import KNOWN
from lake.redis_follows import RedisFollowStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_rewriting import rewrite_log
from lake.redis_user_keys import RedisUserKeys
from scheduler.redis_due import RedisDueIndex
from scheduler.redis_stores import RedisStores
from scheduler.redis_thresholds import RedisThresholds
from scheduler.thresholds import OwnThresholds
from tests.integration.canaries import Canary, House, Places
from tests.stores import short_folder
from tests.unit.delivery.examples import a_message
from tidings import cli
from tidings.bench_courier import people

META = Meta(shards=4)
NOW = 1_700_000_000.0


def _live(client: Redis, user_id: str) -> UserBook:
    """Put a user with everything that people tell of themselves."""
    profiles, follows = RedisProfileStore(client, META.keys), RedisFollowStore(client, META.keys)
    suppression = Suppression(RedisSuppressionStore(client, META.keys), profiles, META)
    book = UserBook(META, profiles, RedisUserRows(client, META.keys), follows, suppression)
    book.put(user_id, {"timezone": "Europe/Berlin", "locale": "de-DE"})
    book.put_preferences(user_id, [{"channel": "push", "allowed": False}])
    book.put_addresses(user_id, {"email": f"{user_id}@example.org"})
    book.put_followed(user_id, Followed(("t",), ("x",)))
    RedisInbox(client, META.keys).add([InboxEntry("", user_id, "g", "i", "e", 0, "Title", "text", "", "why", NOW)])
    RedisDueIndex(client, META.keys).enroll([user_id], np.array([1]))
    RedisUserKeys(client, META.keys).of([user_id])
    return book


def _fill(client: Redis, user_id: str) -> UserBook:
    book = _live(client, user_id)
    for kind in (Keys.LEDGER, Keys.HELD, Keys.FEATURES, Keys.SEEN):
        client.set(META.keys.of_user(kind, user_id), b"something")
    return book


def _deliver(client: Redis, user_id: str) -> None:
    """Leave an outcome, a dead letter and an event of a user in their shard's streams."""
    shard, outbox = shard_of(user_id, META.shards), RedisOutbox(client, META.keys)
    client.xadd(META.keys.of_shard(Keys.OUTBOX, shard), {FIELD: a_message(user_id=user_id).pack()})
    entries = outbox.read(shard, "courier", 10, NOW, 60_000)
    answered = [entry.answered(NOW - 1, "550 no such address") for entry in entries]
    outbox.settle(shard, [Outcome(entry, "failed", "no such address", dead=True) for entry in answered], NOW)
    RedisEventLog(client, META.keys).append([{"user_id": user_id, "kind": "open", "at": NOW}], secrets.token_hex(8), NOW)


def _traces(client: Redis, user_id: str) -> set[bytes]:
    """Return the keys whose name or value mentions a user."""
    needle = user_id.encode()
    return {bytes(name) for name in client.scan_iter("*") if needle in name or needle in (client.dump(name) or b"")}


@pytest.fixture
def erase(redis_client: Redis, tmp_path: Path) -> RedisErasure:
    return RedisErasure(RedisStores(redis_client, META), History(str(tmp_path / "history")))


def test_nothing_of_an_erased_user_is_left(redis_client: Redis, erase: RedisErasure) -> None:
    _fill(redis_client, "someone-to-forget")
    _fill(redis_client, "somebody-else")
    others = _traces(redis_client, "somebody-else")
    assert len(_traces(redis_client, "someone-to-forget")) >= len(KINDS)
    erase("someone-to-forget", NOW)
    assert _traces(redis_client, "someone-to-forget") == set()
    assert _traces(redis_client, "somebody-else") == others


def test_one_of_thousands_is_exported_and_erased_down_to_the_rewritten_log_within_a_minute(redis_client: Redis, tmp_path: Path) -> None:
    stores, history = RedisStores(redis_client, META), History(str(tmp_path / "history"))
    people(stores, 5_000, "in_app", "")
    _live(redis_client, "someone-to-forget")
    _deliver(redis_client, "someone-to-forget")
    began = time.monotonic()
    exported = export_of(stores, history)("someone-to-forget", NOW)
    RedisErasure(stores, history)("someone-to-forget", NOW)
    assert rewrite_log(redis_client, wait=True) == "rewritten"
    assert time.monotonic() - began < 60.0
    assert exported is not None
    assert "someone-to-forget@example.org" in json.dumps(exported)
    assert exported["outcomes"][0]["tried"] == [{"at": "2023-11-14T22:13:19+00:00", "detail": "550 no such address"}]
    assert _traces(redis_client, "someone-to-forget") == set()


def test_an_erased_user_keeps_no_threshold_of_their_own(redis_client: Redis, erase: RedisErasure) -> None:
    stay = next(name for name in (f"neighbour{n}" for n in range(99)) if shard_of(name, META.shards) == shard_of("forgotten", META.shards))
    users, thresholds = ["forgotten", stay], RedisThresholds(redis_client, META.keys)
    thresholds.write_own(shard_of(stay, META.shards), OwnThresholds.of(users, np.full((2, 1), 0.5, np.float32)))
    erase("forgotten", NOW)
    own = RedisThresholds(redis_client, META.keys).own(users, shards_of(users, META.shards), NOW)
    assert own is not None
    assert np.array_equal(own[:, 0], [np.nan, 0.5], equal_nan=True)


def test_nothing_of_an_erased_user_is_left_in_their_shards_streams(redis_client: Redis, erase: RedisErasure) -> None:
    stay = next(name for name in (f"neighbour{n}" for n in range(99)) if shard_of(name, META.shards) == shard_of("forgotten", META.shards))
    for user_id in ("forgotten", stay, "forgotten"):
        _deliver(redis_client, user_id)
    shard, outbox, events = shard_of(stay, META.shards), RedisOutbox(redis_client, META.keys), RedisEventLog(redis_client, META.keys)
    assert len(outbox.outcomes(shard, "", 10)) == len(outbox.dead(shard, 10)) == len(events.read(shard, 10)) == 3
    erase("forgotten", NOW)
    assert [outcome.user_id for _, outcome in outbox.outcomes(shard, "", 10)] == [stay]
    assert [letter.message and letter.message.user_id for letter in outbox.dead(shard, 10)] == [stay]
    assert [row["user_id"] for _, row in events.read(shard, 10)] == [stay]


def test_whoever_unsubscribed_stays_unsubscribed_should_they_come_back(redis_client: Redis, erase: RedisErasure) -> None:
    book = _fill(redis_client, "u1")
    book.suppression.unsubscribe("u1", "email", "test", NOW)
    erase("u1", NOW)
    erase("u1", NOW)
    assert not book.profiles.get(["u1"])["flags"][0] & KNOWN
    book.put("u1", {})
    assert book.profiles.get(["u1"])["suppressed"][0] == 1 << META.channels.index("email")


@dataclass(frozen=True)
class Case:
    """A deployment in which two people have lived the same life."""

    house: House
    places: Places
    gone: Canary
    stays: Canary
    url: str


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """The deployment, its store uncompressed so that every byte of it can be searched; commands find it by REDIS_URL."""
    log, handler = tmp_path / "tidings.log", logging.FileHandler(tmp_path / "tidings.log")
    handler.setFormatter(formatter())
    logging.getLogger().addHandler(handler)
    with short_folder() as folder, EmbeddedStore(folder) as store:
        monkeypatch.setenv("REDIS_URL", store.url)
        stores = RedisStores.open(store.url, META)
        stores.client.config_set("rdbcompression", "no")
        history = tmp_path / "tidings-home" / "history"
        house = House(stores, History(str(history)), stores.clock.now())
        gone = Canary("xq7zv")
        stays = next(other for other in map(Canary, ("wk3jp", "jy8fk", "pd2wq", "zg6tb")) if _shard(other) == _shard(gone))
        house.live(stays, "first-friend")
        house.live(gone, "second-friend")
        house.book.put_preferences(stays.id, [])
        house.tell([stays.id], "Afterwards", "lies beside what the other was sent")
        yield Case(house, Places(stores, folder, history, log), gone, stays, store.url)
        stores.client.close()
    logging.getLogger().removeHandler(handler)
    handler.close()


def _held(case: Case, who: Canary) -> dict[str, Any]:
    """Return an export as of now, its decisions in the order they were made."""
    document = export_of(RedisStores(case.house.stores.client, META), case.house.history)(who.id, case.house.now)
    assert document is not None
    return document | {"decisions": sorted(document["decisions"], key=lambda row: int(row["decision_id"].rpartition("-")[2]))}


def _shard(who: Canary) -> int:
    return shard_of(who.id, META.shards)


def test_an_export_holds_every_word_of_a_user_and_an_erasure_leaves_none_in_any_place(case: Case) -> None:
    words = list(case.gone.said.values())
    before = case.places.holding(*words)
    assert {word for word, places in before.items() if not places} == set()
    run = CliRunner().invoke(cli.app, ["users", "export", case.gone.id])
    assert run.exit_code == 0, run.output
    text = json.dumps(json.loads(run.stdout), ensure_ascii=False)
    assert [word for word in words if word not in text] == []
    assert case.stays.word not in text

    others = _held(case, case.stays)
    done = CliRunner().invoke(cli.app, ["users", "erase", case.gone.id, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["append_only_file"] == "rewritten"
    assert min(report["removed"].values()) > 0, report
    assert case.places.holding(case.gone.word)[case.gone.word] == []
    assert "refused by [email]" in case.places.log.read_text()
    left = _held(case, case.gone)
    assert {name: value for name, value in left.items() if value and name not in ("user_id", "exported_at")} == {
        "suppressions": [{"channel": "sms", "reason": "unsubscribed", "source": "erased", "at": left["exported_at"]}]
    }
    assert _held(case, case.stays) == others
