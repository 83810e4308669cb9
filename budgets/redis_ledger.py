"""Ledgers on a Redis-protocol server: one packed string per user, changed by the commit and by one small script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.commands.core import Script

from budgets.ledger import LedgerColumns, parse
from lake.ids import Keys64, shards_of
from lake.keys import Keys
from lake.redis_scripts import Call, run_calls, script_of

MAX_CHANGES = 500
"""Most changes of one script call: it blocks the store while it runs."""


@dataclass(frozen=True)
class RedisLedger:
    """See Ledger."""

    client: Redis
    keys: Keys

    def read(self, users: Sequence[str]) -> LedgerColumns:
        """See Ledger."""
        packed: Any = self.client.mget(self._names(users)) if users else []
        return parse(packed)

    def refund(self, users: Sequence[str], grant_ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """See Ledger."""
        return self._change("refund", users, np.asarray(grant_ids, np.uint64))

    def mark_opened(self, users: Sequence[str], keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """See Ledger."""
        return self._change("open", users, np.asarray(keys, np.uint64))

    def delete(self, users: Sequence[str]) -> None:
        """See Ledger."""
        pipe = self.client.pipeline(transaction=False)
        for name in self._names(users):
            pipe.unlink(name)
        pipe.execute()

    def _change(self, change: Literal["refund", "open"], users: Sequence[str], keys: Keys64) -> npt.NDArray[np.bool_]:
        """Run one script call per shard and MAX_CHANGES changes."""
        names, wanted = self._names(users), keys.astype("<u8").tobytes()
        order = np.argsort(shards_of(users, self.keys.shards), kind="stable")
        shards = shards_of([users[row] for row in order], self.keys.shards)
        groups = [
            part
            for group in np.split(order, np.flatnonzero(np.diff(shards)) + 1)
            for part in np.split(group, range(MAX_CHANGES, len(group), MAX_CHANGES))
        ]
        done = np.zeros(len(users), bool)
        if len(users) == 0:
            return done
        calls = [self._call(change, names, wanted, group.tolist()) for group in groups]
        for group, reply in zip(groups, run_calls(self.client, self._script, calls), strict=True):
            done[group] = np.frombuffer(reply, np.uint8) == ord("1")
        return done

    @staticmethod
    def _call(change: str, names: list[str], wanted: bytes, rows: list[int]) -> Call:
        return [names[row] for row in rows], [change, *(wanted[8 * row : 8 * row + 8] for row in rows)]

    def _names(self, users: Sequence[str]) -> list[str]:
        return self.keys.of_users(Keys.LEDGER, list(users))

    @cached_property
    def _script(self) -> Script:
        return script_of(self.client, "budgets", "ledger")
