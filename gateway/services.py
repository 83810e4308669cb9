"""Everything the routes need, assembled by whoever starts the gateway: serve_app with the real parts, tests with those in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delivery.channels.registry import CheckAddress
from delivery.deadletters import DeadLetters
from delivery.feedback import Feedback
from delivery.inbox import Inbox
from delivery.links import Links
from delivery.suppression import Suppression
from gateway.api_keys import ApiKeyStore
from gateway.console import Overview
from gateway.explaining import Ask
from gateway.fanout import FanoutStore
from gateway.idempotency import IdempotencyStore
from gateway.lane import LaneError, UrgentLane
from gateway.limits import Limits
from gateway.preference_form import Offer
from gateway.rates import Rates
from gateway.stories import Decisions, Step
from gateway.user_rows import UserRows
from lake.clock import Clock
from lake.decisions import Decided
from lake.follows import FollowStore
from lake.items import ItemStore
from lake.meta import Meta
from lake.metrics import MemoryMetrics, Metrics
from lake.profiles import ProfileStore
from scheduler.lanes import UrgentRequest, UrgentResult

Decide = Callable[[UrgentRequest], Awaitable[UrgentResult | LaneError]]
"""How a request reaches the lane: by itself, or merged with those that came at the same time."""


@dataclass(frozen=True)
class Services:
    """The parts behind the routes. They block, so they are called from threads, several at once.

    `checks`: by part ("store", "ranker"), a function that raises where the part does not answer. `stand_ins`: the parts that something
    stands in for while they are away. `away_errors`: what
    the lane and the store's client raise where a part does not answer. `overview`: the console's numbers at a time.
    `erase`: forget a user everywhere. `export`: everything held about a user at a time, None where that is nothing.
    `address_checks`: by channel, what refuses a text that cannot be an address.
    `channels`: those that are set up, None for every one that the store knows.
    `story`: the steps of a user's message by its grant id at a time.
    `offer`: what users may choose among on their page.
    `rehearse`: what would be decided for users if their windows opened at a time.
    `explain`: asks a ranker what made scores.
    `enroll`: give users who were put, or whose times changed, their place in the due index. `rates`: how often keys may call.
    `dashboard_url`: Ray's dashboard, for the console's links.
    """

    meta: Meta
    clock: Clock
    lane: UrgentLane
    items: ItemStore
    profiles: ProfileStore
    user_rows: UserRows
    follows: FollowStore
    decisions: Decisions
    feedback: Feedback
    suppression: Suppression
    inbox: Inbox
    links: Links
    api_keys: ApiKeyStore
    idempotency: IdempotencyStore
    fanout: FanoutStore
    dead_letters: DeadLetters
    overview: Callable[[float], Overview]
    erase: Callable[[str, float], None]
    export: Callable[[str, float], Mapping[str, Any] | None]
    enroll: Callable[[Sequence[str], float], None]
    explain: Ask
    story: Callable[[str, str, float], list[Step]]
    rehearse: Callable[[list[str], float], Decided]
    checks: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    stand_ins: frozenset[str] = frozenset()
    away_errors: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
    metrics: Metrics = field(default_factory=MemoryMetrics)
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    dashboard_url: str = ""
    address_checks: Mapping[str, CheckAddress] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    offer: Offer = field(default_factory=lambda: Offer({}, ("in_app",)))
