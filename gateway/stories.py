"""A message's whole story: decided, queued, how each attempt to deliver it ended, and what its reader did, each with its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pandas as pd
import pyarrow.compute as pc

from delivery.feedback import EventLog
from delivery.outbox import Attempt, OutcomeRecord, Standing
from gateway.exporting import EVERY
from lake.history import KEEP_DAYS, History
from lake.ids import shard_of
from lake.user_keys import UserKeys

PAGE = 5_000
MOST_DECISIONS = 50_000
NAMES = {
    "open": "opened",
    "click": "clicked",
    "visit": "visited",
    "unsubscribe": "unsubscribed",
    "bounce": "bounced",
    "complaint": "complained",
} | {kind: kind for kind in ("delivered", "delayed", "relayed", "expanded")}
"""What a reader did or a carrier told, by the kind of the event; every other kind is an engagement."""

Step = dict[str, Any]


class Outcomes(Protocol):
    """How messages ended, or stand: see delivery.outbox.Outbox."""

    def outcomes(self, shard: int, after: str, count: int) -> list[tuple[str, OutcomeRecord]]:
        """Return at most `count` settled messages with their ids, oldest first, after the id `after`."""
        ...

    def standing(self, shard: int, grant_id: str) -> Standing | None:
        """Return how a message stands that is not settled."""
        ...


class Decisions(Protocol):
    """What was decided: see lake.decision_log.DecisionLog."""

    def find(self, now: float, *, user_id: str | None = None, decision_id: str | None = None, limit: int = 1000) -> pd.DataFrame:
        """Return the newest rows of a user or a decision, newest first."""
        ...


@dataclass(frozen=True)
class Stories:
    """Reads a story from where its parts are kept: the decision log, the outcomes of the outbox, and the events."""

    decisions: Decisions
    outcomes: Outcomes
    events: EventLog
    history: History
    user_keys: UserKeys
    shards: int

    def of(self, user_id: str, grant_id: str, now: float) -> list[Step]:
        """Return the steps of a user's message, oldest first, each with `step` and `at`; empty where there is no such message."""
        decided, settled = list(self._decided(user_id, grant_id, now)), list(self._settled(user_id, grant_id))
        # Only what has failed can be there once more: a dead letter is sent again.
        open_ = decided and (not settled or settled[-1]["step"] == "failed")
        steps = [*decided, *settled, *(self._standing(user_id, grant_id) if open_ else ()), *self._done(user_id, grant_id, now)]
        return sorted(steps, key=lambda step: float(step["at"]))

    def _decided(self, user_id: str, grant_id: str, now: float) -> Iterator[Step]:
        rows = self.decisions.find(now, user_id=user_id, limit=MOST_DECISIONS)
        for row in rows[rows["grant_id"] == grant_id].to_dict("records"):
            facts = {name: row[name] for name in ("decision_id", "item_id", "channel", "lane", "disposition", "reason", "model_id")}
            at = pd.Timestamp(row["at"]).timestamp()
            yield {"step": "decided", "at": at, **facts}
            # The commit grants and enqueues in the step that settles the decision.
            yield {"step": "queued", "at": at}

    def _settled(self, user_id: str, grant_id: str) -> Iterator[Step]:
        shard, after = shard_of(user_id, self.shards), ""
        while page := self.outcomes.outcomes(shard, after, PAGE):
            after = page[-1][0]
            for _, record in page:
                if record.grant_id == grant_id and record.user_id == user_id:
                    yield from _attempted(record.tried)
                    yield {"step": record.state, "at": record.at, "detail": record.detail, "provider_id": record.provider_id}

    def _standing(self, user_id: str, grant_id: str) -> Iterator[Step]:
        found = self.outcomes.standing(shard_of(user_id, self.shards), grant_id)
        if found is None:
            return
        yield from _attempted(found.tried)
        if found.attempted_at is not None:
            yield {"step": "attempted", "at": found.attempted_at, "attempts": len(found.tried) + 1}
        if found.due_at is not None:
            yield {"step": "retrying", "at": found.due_at, "attempts": len(found.tried)}

    def _done(self, user_id: str, grant_id: str, now: float) -> Iterator[Step]:
        seen = [row for _, row in self.events.read(shard_of(user_id, self.shards), EVERY) if row["user_id"] == user_id]
        for row in [*seen, *self._filed(user_id, now)]:
            if row.get("send_id") == grant_id:
                yield {"step": NAMES.get(row["kind"], "engaged"), "at": row["at"], "kind": row["kind"]}

    def _filed(self, user_id: str, now: float) -> list[Step]:
        key = self.user_keys.known([user_id])[0]
        if key is None:
            return []
        frame = self.history.read("events", now - KEEP_DAYS * 86400, now + 86400, where=pc.field("user_key") == key)
        if not len(frame) or "send_id" not in frame:
            return []
        filed = frame.assign(at=[moment.timestamp() for moment in frame["at"]])
        return [{str(name): value for name, value in row.items()} for row in filed[["kind", "at", "send_id"]].to_dict("records")]


def _attempted(tried: Sequence[Attempt]) -> Iterator[Step]:
    """Yield each attempt that was answered, counted from 1, with what was wrong with it."""
    for count, attempt in enumerate(tried, 1):
        yield {"step": "attempted", "at": attempt.at, "attempts": count, "detail": attempt.detail}


def told(steps: list[Step]) -> list[Step]:
    """Return steps as they are shown: times as ISO 8601, what is empty left out."""
    return [
        {name: datetime.fromtimestamp(value, UTC).isoformat() if name == "at" else value for name, value in step.items() if value != ""}
        for step in steps
    ]
