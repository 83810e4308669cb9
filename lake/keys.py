"""Names of the store's keys. All of a user's keys carry the hash tag of the shard, so one script may touch a whole shard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lake.ids import shard_of

LAYOUT = "t1"
META = f"{LAYOUT}:meta"
HELD_CLOCK = f"{LAYOUT}:clock"
LEADER = f"{LAYOUT}:leader"
API_KEYS = f"{LAYOUT}:apikeys"
THRESHOLDS = f"{LAYOUT}:thresholds"
HALF_LIVES = f"{LAYOUT}:half-lives"
LINK_SECRET = f"{LAYOUT}:link-secret"
ITEM_CHANGES = f"{LAYOUT}:item-changes"
SWITCHES = f"{LAYOUT}:switches"
ALARMS = f"{LAYOUT}:alarms"
USUAL_PROFILE = f"{LAYOUT}:usual-profile"
RATES = f"{LAYOUT}:rates"


@dataclass(frozen=True)
class Keys:
    """The key names of a store with a given number of shards."""

    shards: int

    def of_shard(self, kind: str, shard: int) -> str:
        """Return the name of a key that a whole shard shares, such as its due index or outbox."""
        return f"{LAYOUT}:{{{shard}}}:{kind}"

    def of_user(self, kind: str, user_id: str) -> str:
        """Return the name of one user's key of a kind."""
        return f"{LAYOUT}:{{{shard_of(user_id, self.shards)}}}:{kind}:{user_id}"

    def of_users(self, kind: str, user_ids: list[str]) -> list[str]:
        """Return `of_user` for many users."""
        prefixes, shards = _prefixes(kind, self.shards), self.shards
        return [prefixes[shard_of(user_id, shards)] + user_id for user_id in user_ids]

    # The rooms' kinds of keys, in one place so that no two rooms pick the same one.
    PROFILE = "p"
    PREFERENCES = "pr"
    WEEK = "wk"
    ADDRESSES = "ad"
    FOLLOWS = "f"
    FOLLOWERS = "fo"
    FEATURES = "u"
    LEDGER = "l"
    HELD = "h"
    INBOX = "in"
    ITEM = "i"
    ITEM_COUNTS = "ic"
    ACTORS = "ia"
    AUTHOR = "a"
    TOPIC = "tp"
    DUE = "due"
    LEASE = "lease"
    OUTBOX = "outbox"
    ATTEMPTS = "attempts"
    OUTCOMES = "outcomes"
    DEAD = "dead"
    DECISIONS = "log"
    EVENTS = "events"
    IDEMPOTENCY = "idem"
    SUPPRESSED = "sup"
    MESSAGE = "m"
    METRICS = "metrics"
    USER_KEY = "k"
    SEEN = "s"
    OWN_THRESHOLDS = "thr"
    THRESHOLD_STATE = "thrs"
    CRITICAL_QUOTA = "cq"


@cache
def _prefixes(kind: str, shards: int) -> list[str]:
    """Return what the names of a kind of user key begin with, by shard."""
    return [f"{LAYOUT}:{{{shard}}}:{kind}:" for shard in range(shards)]
