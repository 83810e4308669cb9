"""Forgetting a user: every key of theirs in the store, their places in others' keys, and the link to rows in files."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from delivery.redis_inbox import STATE as INBOX_STATE
from gateway.redis_user_rows import KIND as USER_ROW
from lake.follows import Followed
from lake.keys import Keys
from lake.redis_follows import RedisFollowStore
from lake.redis_user_keys import RedisUserKeys
from scheduler.redis_due import RedisDueIndex

KINDS = (
    Keys.ADDRESSES,
    Keys.PREFERENCES,
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


@dataclass(frozen=True)
class RedisErasure:
    """Erases users; call it with a user id and the time. Erasing again finishes what a crash cut short.

    Suppressions stay: whoever asked not to be written to must not be, should they come back.
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
        RedisUserKeys(self.client, self.keys).forget([user_id])
