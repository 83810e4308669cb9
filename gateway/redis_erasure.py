"""Forgetting a user: every key of theirs in the store, their places in others' keys, and the link to rows in files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd
import pyarrow.compute as pc

from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import STATE as INBOX_STATE
from delivery.redis_outbox import ALL, RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from gateway.belongings import Belongings
from gateway.exporting import filed_events
from gateway.redis_user_rows import KIND as USER_ROW
from lake.decision_log import DRY_TABLE, TABLE, DecisionLog
from lake.follows import Followed, unfollow
from lake.history import History
from lake.ids import shard_of
from lake.keys import LAYOUT, Keys
from lake.redis_rewriting import rewrite_stream
from ranking.redis_features import RedisFeatureStore
from scheduler.own_thresholds import forget
from scheduler.redis_stores import RedisStores

KINDS = (
    Keys.ADDRESSES,
    Keys.PREFERENCES,
    Keys.WEEK,
    USER_ROW,
    Keys.LEDGER,
    Keys.HELD,
    Keys.INBOX,
    INBOX_STATE,
    Keys.SEEN,
    Keys.FOLLOWS,
    Keys.FOLLOWS + "n",
)

SCANNED = 1_000
"""Keys that one step of a walk through the store looks at."""

FACTS = frozenset({"user_key", "item_id", "kind", "channel", "at", "utc_offset_minutes"})
"""What a filed event keeps; ids of events and messages, and every column of the application's own, are blanked."""


@dataclass(frozen=True)
class RedisErasure:
    """Erases users; call it with a user id and the time. Erasing again finishes what a crash cut short.

    Suppressions stay, under a hash of the user's id: whoever asked not to be written to must not be, should they come back.
    Ids of events that must not count twice are hashes too, and expire by themselves. What is deleted here is in the
    append-only file until that is rewritten (lake.redis_rewriting.rewrite_log).
    """

    stores: RedisStores
    history: History

    def __call__(self, user_id: str, now: float) -> dict[str, int]:
        """Forget a user everywhere, and return how much there was of what."""
        stores, shard = self.stores, shard_of(user_id, self.stores.meta.shards)
        log = stores.decision_log(self.history)
        # The profile goes first: from here on nothing more is decided for them, and what is queued is dropped.
        known = int(self._delete(user_id, (Keys.PROFILE,)))
        stores.due.remove([user_id])
        while log.drain(shard):
            pass
        removed = {
            "profile": known,
            "items of their own": self._leave_items(user_id, shard, log, now),
            "filed rows unlinked": self._leave_files(user_id, shard),
            **self._leave_streams(user_id, shard),
            "kept answers": self._leave_answers(user_id),
            "followers": unfollow(stores.follows, stores.meta.shards, user_id),
            "keys": self._leave_keys(user_id),
            "suppressions kept without a name": RedisSuppressionStore(stores.client, stores.meta.keys).forget_name(user_id),
        }
        # Last, for a crash before it must leave the way to the rows in files.
        stores.user_keys.forget([user_id])
        return removed

    def _leave_keys(self, user_id: str) -> int:
        """Delete the keys of the user's own, and what was worked out about them."""
        stores = self.stores
        stores.follows.put([user_id], [Followed()])
        forget(stores.thresholds, [user_id], stores.meta.shards)
        RedisFeatureStore(stores.client, stores.meta.keys).delete_users([user_id])
        return self._delete(user_id, KINDS)

    def _delete(self, user_id: str, kinds: tuple[str, ...]) -> int:
        return int(self.stores.client.delete(*(self.stores.meta.keys.of_user(kind, user_id) for kind in kinds)))

    def _leave_items(self, user_id: str, shard: int, log: DecisionLog, now: float) -> int:
        """Delete the items that are the user's own, and take the user out of the people who engaged with any."""
        stores, belongings = self.stores, Belongings(self.stores.items, log)
        own = sorted({row["item_id"] for row in [*belongings.made_by(user_id), *belongings.told_only(user_id, now)]})
        features = RedisFeatureStore(stores.client, stores.meta.keys)
        stores.items.delete(own)
        features.delete_items(own)
        waiting = [row for _, row in RedisEventLog(stores.client, stores.meta.keys).read(shard, ALL) if row["user_id"] == user_id]
        key = stores.user_keys.known([user_id])[0]
        filed = [] if key is None else filed_events(self.history, key, shard, now).get("item_id", pd.Series(dtype=object)).dropna().tolist()
        features.disengage(user_id, sorted({*filed, *(row["item_id"] for row in waiting if row.get("item_id"))}))
        return len(own)

    def _leave_files(self, user_id: str, shard: int) -> int:
        """Blank what could lead from the user's rows in files back to them; the rows stay, under a random key nobody holds any more."""
        key = self.stores.user_keys.known([user_id])[0]
        if key is None:
            return 0
        mine = pc.field("user_key") == key
        decisions = sum(self.history.blank(table, shard, mine, lambda name: name == "grant_id") for table in (TABLE, DRY_TABLE))
        return decisions + self.history.blank("events", shard, mine, lambda name: name not in FACTS)

    def _leave_streams(self, user_id: str, shard: int) -> dict[str, int]:
        """Take a user's messages, outcomes, dead letters and events out of the streams of their shard."""
        client, keys = self.stores.client, self.stores.meta.keys
        outbox, events = RedisOutbox(client, keys).forget(shard, user_id), keys.of_shard(Keys.EVENTS, shard)
        mine = [name for name, row in RedisEventLog(client, keys).read(shard, ALL) if row["user_id"] == user_id]
        rewrite_stream(client, keys.of_shard(Keys.DECISIONS, shard))
        return {
            "messages on their way": outbox.waiting,
            "outcomes": outbox.outcomes,
            "dead letters": outbox.dead,
            "events not filed": rewrite_stream(client, events, mine),
        }

    def _leave_answers(self, user_id: str) -> int:
        """Delete answers, kept a day for retries, that name the user; a retry decides again and finds what was granted."""
        client, needle = self.stores.client, b'"user_id":' + orjson.dumps(user_id)
        names = []
        for name in client.scan_iter(match=f"{LAYOUT}:{{*}}:{Keys.IDEMPOTENCY}:*", count=SCANNED):
            answer: Any = client.hget(name, "a")
            if answer and needle in zlib.decompress(answer):
                names.append(name)
        return int(client.delete(*names)) if names else 0
