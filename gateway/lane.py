"""What the gateway asks of the urgent lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lake.items import ItemRow


@dataclass(frozen=True)
class UrgentRequest:
    """One item for some users, now. `item` None: the store knows `item_id`. `users`: distinct. `decision_id`: the same on a retry."""

    item: ItemRow | None
    item_id: str
    users: list[str]
    channels: tuple[str, ...]
    critical: bool
    key_id: str
    decision_id: str

    @property
    def rows(self) -> int:
        """How many candidates this is."""
        return len(self.users) * len(self.channels)


@dataclass(frozen=True)
class UrgentResult:
    """What was decided, one entry per row in every column; `score` and `threshold` None where a row was dropped before scoring."""

    decision_id: str
    user_id: list[str]
    channel: list[str]
    disposition: list[str]
    score: list[float | None]
    threshold: list[float | None]
    reason: list[str]


@dataclass(frozen=True)
class LaneError:
    """Why a request was not decided. `away`: a part does not answer, a retry may succeed. `invalid`: `field` is wrong."""

    kind: Literal["away", "invalid"]
    detail: str
    field: str = ""
    retry_after_s: float = 1.0


class UrgentLane(Protocol):
    """The urgent lane. Its methods block on the store and the ranker, and several threads call them at once."""

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult | LaneError]:
        """Decide requests together; every `send` is on disk when this returns."""
        ...

    def audience(self, topic: str, limit: int) -> list[str]:
        """Return the distinct followers of a topic, at most `limit` + 1 of them, so that a caller can tell there are more."""
        ...

    def accept_topic(self, request: UrgentRequest, topic: str, now: float) -> str:
        """Take on a request to all followers of a topic, decided shard by shard in the background; returns its decision id."""
        ...


@dataclass
class MemoryLane:
    """A lane that grants each user one send per item and channel, for tests of what stands before the lane."""

    followers: dict[str, list[str]] = field(default_factory=dict)
    calls: list[list[UrgentRequest]] = field(default_factory=list)
    decided_at: list[float] = field(default_factory=list)
    accepted: list[tuple[str, str, float]] = field(default_factory=list)
    granted: dict[tuple[str, str, str], str] = field(default_factory=dict)
    before: Callable[[Sequence[UrgentRequest]], LaneError | None] = lambda _: None

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult | LaneError]:
        """See UrgentLane."""
        self.calls.append(list(requests))
        self.decided_at.append(now)
        failed = self.before(requests)
        return [failed or self._decide(request) for request in requests]

    def audience(self, topic: str, limit: int) -> list[str]:
        """See UrgentLane."""
        return self.followers.get(topic, [])[: limit + 1]

    def accept_topic(self, request: UrgentRequest, topic: str, now: float) -> str:
        """See UrgentLane."""
        self.accepted.append((request.decision_id, topic, now))
        return request.decision_id

    def _decide(self, request: UrgentRequest) -> UrgentResult:
        rows = [(user, channel) for user in request.users for channel in request.channels]
        owners = [self.granted.setdefault((user, request.item_id, channel), request.decision_id) for user, channel in rows]
        sent = [owner == request.decision_id for owner in owners]
        n = len(rows)
        return UrgentResult(
            decision_id=request.decision_id,
            user_id=[user for user, _ in rows],
            channel=[channel for _, channel in rows],
            disposition=["send" if new else "duplicate" for new in sent],
            score=[0.5] * n,
            threshold=[0.1] * n,
            reason=["above_threshold" if new else "already_sent" for new in sent],
        )
