"""Forgetting a user: every key of theirs in the store, their places in others' keys, and the link to rows in files."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import STATE as INBOX_STATE
from delivery.redis_outbox import DEAD_LETTERS_KEPT, RedisOutbox
from gateway.redis_user_rows import KIND as USER_ROW
from lake.follows import Followed
from lake.ids import shard_of
from lake.keys import Keys
from lake.redis_follows import RedisFollowStore
from lake.redis_user_keys import RedisUserKeys
from scheduler.own_thresholds import forget
from scheduler.redis_due import RedisDueIndex
from scheduler.redis_thresholds import RedisThresholds

KINDS = (
    Keys.ADDRESSES,
    Keys.PREFERENCES,
    Keys.WEEK,
    USER_ROW,
    Keys.FEATURES,
    Keys.LEDGER,
    Keys.HELD,
    Keys.INBOX,
    INBOX_STATE,
    Keys.SEEN,
    Keys.FOLLOWS,
    Keys.FOLLOWS + "n",
)

PAGE = 10_000
"""Entries of a stream read at a time; events wait for a few seconds only, so that they are never more."""


@dataclass(frozen=True)
class RedisErasure:
    """Erases users; call it with a user id and the time. Erasing again finishes what a crash cut short.

    Suppressions stay: whoever asked not to be written to must not be, should they come back. Messages on their
    way are dropped within seconds. Ids of events that must not count twice expire by themselves. Decisions that wait to
    be filed belong in files before this: filing them afterwards gives the user a new key.
    """

    client: Redis
    keys: Keys

    def __call__(self, user_id: str, now: float) -> None:
        """Forget a user everywhere in the store."""
        del now
        # The profile goes first: from here on nothing more is decided for them, and what is queued is dropped.
        self.client.delete(self.keys.of_user(Keys.PROFILE, user_id))
        RedisDueIndex(self.client, self.keys).remove([user_id])
        RedisFollowStore(self.client, self.keys).put([user_id], [Followed()])
        self.client.delete(*(self.keys.of_user(kind, user_id) for kind in KINDS))
        forget(RedisThresholds(self.client, self.keys), [user_id], self.keys.shards)
        self._leave_streams(user_id)
        RedisUserKeys(self.client, self.keys).forget([user_id])

    def _leave_streams(self, user_id: str) -> None:
        """Take a user's outcomes, dead letters and events out of the streams of their shard."""
        shard = shard_of(user_id, self.keys.shards)
        outbox, events = RedisOutbox(self.client, self.keys), RedisEventLog(self.client, self.keys)
        letters = outbox.dead(shard, DEAD_LETTERS_KEPT)
        outbox.drop(shard, [letter.letter_id for letter in letters if letter.message and letter.message.user_id == user_id])
        events.remove(shard, [name for name, row in events.read(shard, PAGE) if row["user_id"] == user_id])
        after = ""
        while page := outbox.outcomes(shard, after, PAGE):
            after = page[-1][0]
            if mine := [name for name, outcome in page if outcome.user_id == user_id]:
                self.client.xdel(self.keys.of_shard(Keys.OUTCOMES, shard), *mine)
