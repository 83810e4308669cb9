"""One user's whole life in a real store, every word of which can be found again, and a search of every byte for what is left of it."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pyarrow.parquet as pq

from delivery.channels.base import Answer, Channel, Delivery, Permanent, Traits, Transient
from delivery.channels.in_app import InApp
from delivery.dispatch import Dispatcher
from delivery.feedback import Effects, EventRow, Feedback, drain_events
from delivery.parts import Parts
from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from gateway.redis_idempotency import RedisIdempotency
from gateway.redis_user_rows import RedisUserRows
from gateway.users import UserBook
from lake.follows import Followed
from lake.history import History
from lake.ids import author_key, hash64, shard_of
from lake.items import ItemTable
from lake.user_keys import keyed
from ranking.blocks import AUTHOR_AFFINITY, DIMENSIONS, TEXT_DIMENSIONS, TOPIC_AFFINITY, Lists, UserBlock
from ranking.redis_features import RedisFeatureStore
from ranking.rows import AUTHOR, blank_stats
from scheduler.lanes import UrgentLane, UrgentRequest
from scheduler.loading import enroll
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.redis_stores import RedisStores
from scheduler.thresholds import OwnThresholds
from scheduler.windows import DAY_QUARTERS, EPOCH_QUARTERS, SLOT_S, WEEK_QUARTERS
from tests.unit.delivery.examples import LINKS
from tests.unit.scheduler.test_pipeline import Fixed

log = logging.getLogger("tidings.tests.canaries")


@dataclass(frozen=True)
class Canary:
    """Everything about one user that must be found before an erasure and nowhere after it."""

    word: str

    @cached_property
    def said(self) -> dict[str, str]:
        """The strings, by what they are."""
        word = self.word
        return {
            "id": f"id-{word}",
            "email": f"mail-{word}@example.org",
            "push": f"push-{word}:APA91bH",
            "webhook": f"https://hook-{word}.example/in?key=query-{word}",
            "name": f"Name {word}",
            "topic": f"topic-{word}",
            "kind": f"kind-{word}",
            "title": f"Title {word}",
            "text": f"Text {word}",
            "written": f"Written by {word}",
            "note": f"Note {word}",
            "event": f"event-{word}",
            "source": f"source-{word}",
            "undelivered": f"Undelivered {word}",
            "held": f"Held {word}",
        }

    @property
    def id(self) -> str:
        """The user's id."""
        return self.said["id"]


@dataclass
class Refusing:
    """An e-mail provider that knows no address, and says which; while `down` it asks to be tried again."""

    down: bool = False
    name: str = "email"
    traits: Traits = Traits(batch=10, concurrency=2)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        if self.down:
            return [Transient("busy", retry_after_s=3600.0) for _ in deliveries]
        return [Permanent(f"550 5.1.1 <{delivery.address}>: no such user", bad_address=True) for delivery in deliveries]

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class House:
    """The parts of a deployment in one process, on a real store and real files, without the model."""

    stores: RedisStores
    history: History
    now: float
    ranker: Fixed = field(default_factory=Fixed)
    email: Refusing = field(default_factory=Refusing)
    asked: int = 0

    def __post_init__(self) -> None:
        stores, keys = self.stores, self.stores.meta.keys
        self.suppression = Suppression(RedisSuppressionStore(stores.client, keys), stores.profiles, stores.meta)
        self.book = UserBook(stores.meta, stores.profiles, RedisUserRows(stores.client, keys), stores.follows, self.suppression)
        self.features, self.events = RedisFeatureStore(stores.client, keys), RedisEventLog(stores.client, keys)
        self.outbox, self.answers = RedisOutbox(stores.client, keys), RedisIdempotency(stores.client, keys)
        table = ItemTable(stores.items)
        parts = (stores.meta, stores.profiles, table, stores.seen, stores.ledger, self.ranker, stores.committer, stores.thresholds)
        self.lane = UrgentLane(Pipeline(*parts, config=PipelineConfig(weekly={"in_app": 10, "email": 10})), stores.follows, stores.held)
        self.feedback = Feedback(self.events, self.suppression, Effects(self._engaged, lambda _: None))
        templates = Templates(TemplateSettings(), LINKS)
        in_app = InApp("in_app", RedisInbox(stores.client, keys))
        channels: dict[str, Channel] = {"in_app": in_app, "email": self.email}
        delivering = (self.outbox, channels, stores.profiles, stores.items, self.suppression, templates, stores.ledger.refund, stores.meta)
        self.dispatcher = Dispatcher(Parts(*delivering))

    def _engaged(self, rows: Sequence[EventRow]) -> None:
        users, items = [row["user_id"] for row in rows], [row["item_id"] for row in rows]
        self.features.record_engagements(items, users, [row["at"] for row in rows])
        self.stores.seen.add(users, hash64(items))

    def tell(self, users: list[str], title: str, text: str, channel: str = "in_app") -> None:
        """Post an urgent item with an Idempotency-Key, as the gateway does."""
        self.asked += 1
        item_id, name = f"item-{self.asked}", f"key:{self.asked}"
        self.answers.begin(name, "hash", self.now)
        item = {"item_id": item_id, "title": title, "text": text, "created_at": self.now - 60}
        asked = UrgentRequest(item, item_id, users, (channel,), False, "key", f"decision-{self.asked}")
        (result,) = self.lane.decide([asked], self.now)
        rows = [{"user_id": user, "disposition": end} for user, end in zip(result.user_id, result.disposition, strict=True)]
        self.answers.finish(name, "hash", orjson.dumps({"results": rows}), self.now)

    def deliver(self) -> None:
        """Let a courier drain every shard once."""
        for shard in range(self.stores.meta.shards):
            asyncio.run(self.dispatcher.drain(shard, "courier", self.now))

    def file(self) -> None:
        """File what was decided and what users did, as a courier does."""
        decisions = self.stores.decision_log(self.history)
        for shard in range(self.stores.meta.shards):
            decisions.drain(shard)
            drain_events(
                self.events,
                shard,
                lambda frame, shard, first, last: self.history.file(
                    "events", keyed(frame, self.stores.user_keys), at="at", shard=shard, first=first, last=last
                ),
            )

    def live(self, who: Canary, friend: str) -> None:
        """Have a user do, and be told, a bit of everything; some of it is filed and some still waits."""
        said, user = who.said, who.id
        self._settle_in(who, friend)
        self.tell([user], said["title"], said["text"])
        self.tell([user, friend], "For everybody", "Come in")
        self.tell([user], said["undelivered"], "text", "email")
        self.deliver()
        self._do(who, friend)
        self.file()
        self._do(who, friend)
        self.email.down = True
        self.book.put_addresses(user, {"email": f"new-{said['email']}", "push": said["push"], "webhook": said["webhook"]})
        self.tell([user], "Retried", "text", "email")
        self.deliver()
        self.email.down = False
        self.tell([user], "Waiting", "text")
        self.book.put_preferences(user, [{"quiet_from": "00:00", "quiet_to": "23:59"}, {"kind": said["kind"], "allowed": False}])
        self.tell([user], said["held"], "text")
        log.warning("refused by %s", said["email"], extra={"user_id": user, "title": said["title"], "webhook": said["webhook"]})

    def _settle_in(self, who: Canary, friend: str) -> None:
        said, user, stores = who.said, who.id, self.stores
        for name, row in ((user, {"name": said["name"], "timezone": "UTC"}), (friend, {"timezone": "UTC"})):
            self.book.put(name, row)
        self.book.put_addresses(user, {name: said[name] for name in ("email", "push", "webhook")})
        self.book.put_followed(user, Followed((said["topic"],), ("somebody",)))
        self.book.put_followed(friend, Followed((), (user, "somebody")))
        windows = stores.profiles.usual()
        # Three days from now, whenever that is: what is urgent would wait for a window that is near.
        windows["windows"][0, 0] = (self.now // SLOT_S + EPOCH_QUARTERS + 3 * DAY_QUARTERS) % WEEK_QUARTERS
        stores.profiles.write([user, friend], "windows", np.repeat(windows["windows"], 2, axis=0))
        enroll([user, friend], stores.loading(), self.now)
        stores.items.put([{"item_id": f"by-one-of-{friend}", "author_id": user, "title": said["written"], "created_at": self.now}])
        self.suppression.unsubscribe(user, "sms", said["source"], self.now)
        self.features.put_users([user], _features(), self.now)
        self.features.put_authors(author_key([user]), np.ones(1, AUTHOR))
        shard = shard_of(user, stores.meta.shards)
        stores.thresholds.write_own(shard, OwnThresholds.of([user], np.full((1, len(stores.meta.channels)), 0.1, np.float32)))

    def _do(self, who: Canary, friend: str) -> None:
        """Let both open something; the friend last, so that what is deleted of the user lies beside what stays."""
        note = {"note": who.said["note"], "event_id": who.said["event"]}
        did = {"kind": "open", "at": self.now, "item_id": "item-2"}
        rows = [{"user_id": who.id, **did, **note}, {"user_id": who.id, **did, "note": "again"}, {"user_id": friend, **did}]
        self.feedback.accept(rows, self.now)


def _features() -> UserBlock:
    lists = Lists.empty(1, len(AUTHOR_AFFINITY)), Lists.empty(1, len(TOPIC_AFFINITY))
    return UserBlock(np.zeros(1), blank_stats(1), np.ones((1, DIMENSIONS), np.float32), np.ones((1, TEXT_DIMENSIONS), np.float32), *lists)


@dataclass(frozen=True)
class Places:
    """Where to look. `folder`: of the store's files. `log`: the log file."""

    stores: RedisStores
    folder: Path
    history: Path
    log: Path

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and every byte of each place."""
        client = self.stores.client
        for name in client.scan_iter("*"):
            yield f"key {name!r}", name + (client.dump(name) or b"")
            if client.type(name) == b"hash":
                yield f"key {name!r}", b" ".join(map(_unpacked, cast(list[bytes], client.hvals(name))))
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield f"file {path.name}", path.read_bytes()
        for path in sorted(self.history.rglob("*")):
            if path.is_file():
                rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
                yield f"history {path.name}", orjson.dumps(rows, default=str) + str(path).encode()
        yield "log", self.log.read_bytes()

    def holding(self, *words: str) -> dict[str, list[str]]:
        """Return which places hold each of some words, in any case."""
        wanted = {word: word.lower().encode() for word in words}
        found: dict[str, list[str]] = {word: [] for word in words}
        for name, content in self.everything():
            lowered = content.lower()
            for word, needle in wanted.items():
                if needle in lowered:
                    found[word].append(name)
        return found


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value
