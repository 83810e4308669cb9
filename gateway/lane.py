"""What the gateway asks of the urgent lane (scheduler.lanes.UrgentLane), and a lane in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from scheduler.lanes import UrgentRequest, UrgentResult


@dataclass(frozen=True)
class LaneError:
    """Why a request was not decided. `away`: a part does not answer, a retry may succeed. `invalid`: `field` is wrong."""

    kind: Literal["away", "invalid"]
    detail: str
    field: str = ""


class UrgentLane(Protocol):
    """The urgent lane. Its methods block on the store and the ranker, and several threads call them at once."""

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        """Decide requests together; every `send` is on disk when this returns. Repeating a request repeats its grants."""
        ...

    def audience(self, topic: str, limit: int) -> list[str]:
        """Return the distinct followers of a topic, at most `limit` + 1 of them, so that a caller can tell there are more."""
        ...

    def follower_pages(self, topic: str) -> Iterator[list[str]]:
        """Yield the followers of a topic, shard by shard; one may come twice."""
        ...


def rows_of(request: UrgentRequest) -> int:
    """Return how many candidates a request is."""
    return len(request.users) * len(request.channels)


@dataclass
class MemoryLane:
    """A lane that grants each user one send per item and channel, for tests of what stands before the lane.

    `before` is called with every batch, and may raise.
    """

    followers: dict[str, list[str]] = field(default_factory=dict)
    calls: list[list[UrgentRequest]] = field(default_factory=list)
    decided_at: list[float] = field(default_factory=list)
    granted: dict[tuple[str, str, str], str] = field(default_factory=dict)
    before: Callable[[Sequence[UrgentRequest]], object] = lambda _: None

    def decide(self, requests: list[UrgentRequest], now: float) -> list[UrgentResult]:
        """See UrgentLane."""
        self.before(requests)
        self.calls.append(list(requests))
        self.decided_at.append(now)
        return [self._decide(request) for request in requests]

    def audience(self, topic: str, limit: int) -> list[str]:
        """See UrgentLane."""
        return self.followers.get(topic, [])[: limit + 1]

    def follower_pages(self, topic: str) -> Iterator[list[str]]:
        """See UrgentLane."""
        followers = self.followers.get(topic, [])
        for start in range(0, len(followers), 1000):
            yield followers[start : start + 1000]

    def _decide(self, request: UrgentRequest) -> UrgentResult:
        rows = [(user, channel) for user in request.users for channel in request.channels]
        granted = dict(self.granted) if request.dry_run else self.granted
        owners = [granted.setdefault((user, request.item_id, channel), request.decision_id) for user, channel in rows]
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
            dry_run=request.dry_run,
        )
