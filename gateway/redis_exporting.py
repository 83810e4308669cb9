"""The export of a user, on the stores of one deployment."""

from __future__ import annotations

from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from gateway.belongings import Belongings
from gateway.exporting import UserExport
from gateway.redis_user_rows import RedisUserRows
from lake.history import History
from ranking.redis_features import RedisFeatureStore
from scheduler.redis_stores import RedisStores


def export_of(stores: RedisStores, history: History) -> UserExport:
    """Return what reads a user out of every store."""
    client, keys, log = stores.client, stores.meta.keys, stores.decision_log(history)
    return UserExport(
        meta=stores.meta,
        profiles=stores.profiles,
        rows=RedisUserRows(client, keys),
        follows=stores.follows,
        suppressions=RedisSuppressionStore(client, keys),
        ledger=stores.ledger,
        inbox=RedisInbox(client, keys),
        held=stores.held,
        seen=stores.seen,
        due=stores.due,
        features=RedisFeatureStore(client, keys),
        thresholds=stores.thresholds,
        outbox=RedisOutbox(client, keys),
        events=RedisEventLog(client, keys),
        log=log,
        belongings=Belongings(stores.items, log),
    )
