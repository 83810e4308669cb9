"""Every store of the lake, the budgets and the scheduler on one Redis-protocol server."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis import Redis

from budgets.redis_critical_quota import RedisCriticalQuota
from budgets.redis_ledger import RedisLedger
from lake.decision_log import DecisionLog
from lake.history import History
from lake.keys import LINK_SECRET
from lake.meta import Meta
from lake.redis_alarms import RedisAlarms
from lake.redis_clock import RedisClock
from lake.redis_decision_log import RedisDecisionStream
from lake.redis_follows import RedisFollowStore
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_seen import RedisSeenStore
from lake.redis_store import connect, open_meta
from lake.redis_switches import RedisSwitches
from lake.redis_user_keys import RedisUserKeys
from scheduler.loading import Stores
from scheduler.redis_commit import RedisCommitter
from scheduler.redis_due import RedisDueIndex
from scheduler.redis_half_lives import RedisHalfLives
from scheduler.redis_held import RedisHeldStore
from scheduler.redis_lease import RedisLeases
from scheduler.redis_thresholds import RedisThresholds


@dataclass(frozen=True)
class RedisStores:
    """The stores of one deployment. Nothing is connected to before it is used."""

    client: Redis
    meta: Meta
    durable: bool = True

    @staticmethod
    def open(url: str, wanted: Meta | None = None, *, durable: bool = True) -> RedisStores:
        """Connect to the store at `url`, creating it from `wanted` on first use."""
        client = connect(url)
        return RedisStores(client, open_meta(client, wanted), durable)

    @cached_property
    def clock(self) -> RedisClock:
        """The store's own time."""
        return RedisClock(self.client)

    @cached_property
    def profiles(self) -> RedisProfileStore:
        """Profiles, preferences and addresses."""
        return RedisProfileStore(self.client, self.meta.keys)

    @cached_property
    def follows(self) -> RedisFollowStore:
        """Who follows what."""
        return RedisFollowStore(self.client, self.meta.keys)

    @cached_property
    def items(self) -> RedisItemStore:
        """What there is to tell about."""
        return RedisItemStore(self.client, self.meta.keys)

    @cached_property
    def seen(self) -> RedisSeenStore:
        """What users engaged with."""
        return RedisSeenStore(self.client, self.meta.keys)

    @cached_property
    def user_keys(self) -> RedisUserKeys:
        """The random keys that stand for users in files."""
        return RedisUserKeys(self.client, self.meta.keys)

    @cached_property
    def ledger(self) -> RedisLedger:
        """Who has been granted what."""
        return RedisLedger(self.client, self.meta.keys)

    @cached_property
    def critical_quota(self) -> RedisCriticalQuota:
        """What API keys have spent on critical rows."""
        return RedisCriticalQuota(self.client, self.meta.keys)

    @cached_property
    def due(self) -> RedisDueIndex:
        """When each user is next looked at."""
        return RedisDueIndex(self.client, self.meta.keys)

    @cached_property
    def held(self) -> RedisHeldStore:
        """Rows that wait for their user's next window."""
        return RedisHeldStore(self.client, self.meta.keys)

    @cached_property
    def leases(self) -> RedisLeases:
        """Who leads, and who may commit to a shard."""
        return RedisLeases(self.client)

    @cached_property
    def thresholds(self) -> RedisThresholds:
        """What a unit of each channel's budget is worth."""
        return RedisThresholds(self.client, self.meta.keys)

    @cached_property
    def half_lives(self) -> RedisHalfLives:
        """How fast items of each kind lose value."""
        return RedisHalfLives(self.client)

    @cached_property
    def committer(self) -> RedisCommitter:
        """The commit."""
        return RedisCommitter(self.client, self.meta, self.durable)

    @cached_property
    def switches(self) -> RedisSwitches:
        """What is switched off."""
        return RedisSwitches(self.client)

    @cached_property
    def alarms(self) -> RedisAlarms:
        """What is wrong right now."""
        return RedisAlarms(self.client)

    def decision_log(self, history: History) -> DecisionLog:
        """Return the decision log that files its rows in `history`."""
        return DecisionLog(RedisDecisionStream(self.client, self.meta.keys), history, self.user_keys, self.meta.shards)

    def link_secret(self) -> str:
        """Return the secret that signs links, drawing one for a new store."""
        self.client.set(LINK_SECRET, secrets.token_urlsafe(32), nx=True)
        found: Any = self.client.get(LINK_SECRET)
        return str(found.decode())

    def loading(self) -> Stores:
        """Return the stores that loading fills."""
        return Stores(self.meta, self.profiles, self.follows, self.items, self.due)
