"""Erasing a user leaves nothing of theirs in the store but their wish not to be written to."""

from __future__ import annotations

import secrets

import numpy as np
from redis import Redis

from delivery.inbox import InboxEntry
from delivery.outbox import Outcome
from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from gateway.redis_erasure import KINDS, RedisErasure
from gateway.redis_user_rows import RedisUserRows
from gateway.users import UserBook
from lake.follows import Followed
from lake.ids import shard_of, shards_of
from lake.keys import Keys
from lake.messages import FIELD
from lake.meta import Meta
from lake.profiles import KNOWN
from lake.redis_follows import RedisFollowStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_user_keys import RedisUserKeys
from scheduler.redis_due import RedisDueIndex
from scheduler.redis_thresholds import RedisThresholds
from scheduler.thresholds import OwnThresholds
from tests.unit.delivery.examples import a_message

META = Meta(shards=4)
NOW = 1_700_000_000.0


def _fill(client: Redis, user_id: str) -> UserBook:
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
    for kind in (Keys.LEDGER, Keys.HELD, Keys.FEATURES, Keys.SEEN):
        client.set(META.keys.of_user(kind, user_id), b"something")
    return book


def _deliver(client: Redis, user_id: str) -> None:
    """Leave an outcome, a dead letter and an event of a user in their shard's streams."""
    shard, outbox = shard_of(user_id, META.shards), RedisOutbox(client, META.keys)
    client.xadd(META.keys.of_shard(Keys.OUTBOX, shard), {FIELD: a_message(user_id=user_id).pack()})
    entries = outbox.read(shard, "courier", 10, NOW, 60_000)
    outbox.settle(shard, [Outcome(entry, "failed", "no such address", dead=True) for entry in entries], NOW)
    RedisEventLog(client, META.keys).append([{"user_id": user_id, "kind": "open", "at": NOW}], secrets.token_hex(8), NOW)


def _traces(client: Redis, user_id: str) -> set[bytes]:
    """Return the keys whose name or value mentions a user."""
    needle = user_id.encode()
    return {bytes(name) for name in client.scan_iter("*") if needle in name or needle in (client.dump(name) or b"")}


def test_nothing_of_an_erased_user_is_left(redis_client: Redis) -> None:
    _fill(redis_client, "someone-to-forget")
    _fill(redis_client, "somebody-else")
    others = _traces(redis_client, "somebody-else")
    assert len(_traces(redis_client, "someone-to-forget")) >= len(KINDS)
    RedisErasure(redis_client, META.keys)("someone-to-forget", NOW)
    assert _traces(redis_client, "someone-to-forget") == set()
    assert _traces(redis_client, "somebody-else") == others


def test_an_erased_user_keeps_no_threshold_of_their_own(redis_client: Redis) -> None:
    stay = next(name for name in (f"neighbour{n}" for n in range(99)) if shard_of(name, META.shards) == shard_of("forgotten", META.shards))
    users, thresholds = ["forgotten", stay], RedisThresholds(redis_client, META.keys)
    thresholds.write_own(shard_of(stay, META.shards), OwnThresholds.of(users, np.full((2, 1), 0.5, np.float32)))
    RedisErasure(redis_client, META.keys)("forgotten", NOW)
    own = RedisThresholds(redis_client, META.keys).own(users, shards_of(users, META.shards), NOW)
    assert own is not None
    assert np.array_equal(own[:, 0], [np.nan, 0.5], equal_nan=True)


def test_nothing_of_an_erased_user_is_left_in_their_shards_streams(redis_client: Redis) -> None:
    stay = next(name for name in (f"neighbour{n}" for n in range(99)) if shard_of(name, META.shards) == shard_of("forgotten", META.shards))
    for user_id in ("forgotten", stay, "forgotten"):
        _deliver(redis_client, user_id)
    shard, outbox, events = shard_of(stay, META.shards), RedisOutbox(redis_client, META.keys), RedisEventLog(redis_client, META.keys)
    assert len(outbox.outcomes(shard, "", 10)) == len(outbox.dead(shard, 10)) == len(events.read(shard, 10)) == 3
    RedisErasure(redis_client, META.keys)("forgotten", NOW)
    assert [outcome.user_id for _, outcome in outbox.outcomes(shard, "", 10)] == [stay]
    assert [letter.message and letter.message.user_id for letter in outbox.dead(shard, 10)] == [stay]
    assert [row["user_id"] for _, row in events.read(shard, 10)] == [stay]


def test_whoever_unsubscribed_stays_unsubscribed_should_they_come_back(redis_client: Redis) -> None:
    book = _fill(redis_client, "u1")
    book.suppression.unsubscribe("u1", "email", "test", NOW)
    erase = RedisErasure(redis_client, META.keys)
    erase("u1", NOW)
    erase("u1", NOW)
    assert not book.profiles.get(["u1"])["flags"][0] & KNOWN
    book.put("u1", {})
    assert book.profiles.get(["u1"])["suppressed"][0] == 1 << META.channels.index("email")
