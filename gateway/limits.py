"""How much the gateway takes at once."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY_BYTES = 1 << 20
MAX_USERS = 10_000
"""The most users one urgent request may name; a topic may have more followers, who are then served in the background."""
MAX_REHEARSED = 100
"""Users whose windows one request may rehearse: each may have hundreds of candidates."""
MAX_EVENTS = 10_000
MAX_FUTURE_S = 300.0
"""How far ahead of the store's clock a sender's clock may be."""


@dataclass(frozen=True)
class Limits:
    """Limits of one gateway replica.

    `requests_in_flight`: beyond shares of it one kind of request after the other gets 503, in the order of gateway/shedding.py.
    `rows_in_flight`: urgent rows (user x channel) admitted and not yet answered; beyond them requests get 429,
    critical ones beyond twice as many.
    `batch_rows`: requests of more rows go past the batcher, so that they don't hold up small ones. `batch_requests`,
    `batch_wait_s`: how many concurrent requests are merged, and how long the first of them waits for company.
    `lane_threads`: calls of the lane at once. `pending_wait_s`: how long a repeated request waits for the first one to
    end. `stuck_after_s`: a replica whose lane has not come back for so long is replaced.
    """

    requests_in_flight: int = 1_000
    rows_in_flight: int = 50_000
    batch_rows: int = 500
    batch_requests: int = 64
    batch_wait_s: float = 0.002
    lane_threads: int = 6
    pending_wait_s: float = 5.0
    stuck_after_s: float = 30.0
