"""The whole gateway in one process, over memory implementations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from budgets.ledger import MemoryLedger
from delivery.deadletters import DeadLetters
from delivery.feedback import Feedback, MemoryEventLog
from delivery.inbox import MemoryInbox
from delivery.links import Links, LinkSettings
from delivery.outbox import MemoryOutbox
from delivery.suppression import MemorySuppressionStore, Suppression
from gateway.api_keys import MemoryApiKeys, new_key
from gateway.app import create_app
from gateway.belongings import Belongings
from gateway.console import Overview
from gateway.exporting import UserExport
from gateway.fanout import MemoryFanout
from gateway.idempotency import MemoryIdempotency
from gateway.lane import MemoryLane
from gateway.services import Services
from gateway.stories import Stories
from gateway.user_rows import MemoryUserRows
from lake.clock import HeldClock
from lake.decision_log import DecisionLog, MemoryDecisionStream
from lake.decisions import Decided
from lake.follows import MemoryFollowStore
from lake.history import History
from lake.ids import Keys64
from lake.items import ItemTable, MemoryItemStore
from lake.meta import Meta
from lake.metrics import MemoryMetrics
from lake.profiles import MemoryProfileStore
from lake.seen import MemorySeenStore
from lake.user_keys import MemoryUserKeys
from ranking.bundle import BundleError
from ranking.explain import Explained, explain
from ranking.scorer import Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from scheduler.due import MemoryDueIndex
from scheduler.held import MemoryHeldStore
from scheduler.lanes import ScheduledLane
from scheduler.memory_commit import MemoryCommitter
from scheduler.pipeline import Pipeline
from scheduler.scoring import by_model
from scheduler.sources import NewPosts
from scheduler.thresholds import MemoryThresholds
from tests.unit.ranking.models import bundle_of

NOW = 1_700_000_000.0
META = Meta(shards=4)
EVERYTHING = ("urgent", "urgent:critical", "events", "users", "read", "operate")


@dataclass
class World:
    """The memory parts behind one gateway, by name."""

    folder: Path
    clock: HeldClock = field(default_factory=lambda: HeldClock(NOW))
    lane: MemoryLane = field(default_factory=MemoryLane)
    items: MemoryItemStore = field(default_factory=MemoryItemStore)
    profiles: MemoryProfileStore = field(default_factory=MemoryProfileStore)
    user_rows: MemoryUserRows = field(default_factory=MemoryUserRows)
    follows: MemoryFollowStore = field(default_factory=lambda: MemoryFollowStore(META))
    inbox: MemoryInbox = field(default_factory=MemoryInbox)
    events: MemoryEventLog = field(default_factory=lambda: MemoryEventLog(META.shards))
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    user_keys: MemoryUserKeys = field(default_factory=MemoryUserKeys)
    stream: MemoryDecisionStream = field(default_factory=MemoryDecisionStream)
    api_keys: MemoryApiKeys = field(default_factory=MemoryApiKeys)
    idempotency: MemoryIdempotency = field(default_factory=MemoryIdempotency)
    fanout: MemoryFanout = field(default_factory=MemoryFanout)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    links: Links = field(default_factory=lambda: Links(LinkSettings(("0123456789abcdef",), "http://tidings.test")))
    enrolled: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    refunds: list[tuple[str, int]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def token(self, *scopes: str, lifetime_s: float | None = None) -> str:
        """Return the token of a new key."""
        key, token = new_key(scopes, self.clock.now(), lifetime_s=lifetime_s)
        self.api_keys.put(key)
        return token

    def services(self, **changed: Any) -> Services:
        """Return the services, with some parts replaced."""
        suppression = Suppression(MemorySuppressionStore(), self.profiles, META)
        parts: dict[str, Any] = {
            "meta": META,
            "clock": self.clock,
            "lane": self.lane,
            "items": self.items,
            "profiles": self.profiles,
            "user_rows": self.user_rows,
            "follows": self.follows,
            "decisions": DecisionLog(self.stream, History(str(self.folder)), self.user_keys, META.shards),
            "feedback": Feedback(self.events, suppression),
            "suppression": suppression,
            "inbox": self.inbox,
            "links": self.links,
            "api_keys": self.api_keys,
            "idempotency": self.idempotency,
            "fanout": self.fanout,
            "dead_letters": DeadLetters(self.outbox, META.shards, self.refunded),
            "enroll": lambda user_ids, _: self.enrolled.extend(user_ids),
            "overview": lambda now: Overview(windows=3, sends={"urgent": {"in_app": 2}}, at=now),
            "erase": lambda user_id, _: self.erased.append(user_id),
            "export": self.export(suppression),
            "explain": self.explain,
            "story": self.stories().of,
            "rehearse": self.rehearse,
            "checks": {"store": lambda: self._check("store"), "ranker": lambda: self._check("ranker")},
            "metrics": self.metrics,
        }
        return Services(**parts | changed)

    def refunded(self, users: Sequence[str], grant_ids: Keys64) -> None:
        """Note whose units were given back."""
        self.refunds += zip(users, grant_ids.tolist(), strict=True)

    def rehearse(self, users: list[str], now: float) -> Decided:
        """Rehearse the windows of people of whom nothing is known."""
        committer = MemoryCommitter(META, MemoryDueIndex(META.shards), log=self.stream)
        pipeline = Pipeline(
            META, self.profiles, ItemTable(self.items), MemorySeenStore(), committer.ledger, by_model(self.model()), committer
        )
        return ScheduledLane(pipeline, committer.due, (NewPosts(self.follows),), [0]).rehearse(users, now)

    def model(self) -> Scorer:
        """Return the one model there is, whose state is empty."""
        return Scorer(bundle_of(), MemoryFeatureStore(), ItemTable(self.items))

    def export(self, suppression: Suppression) -> UserExport:
        """Return what reads a user out of every store."""
        log = DecisionLog(self.stream, History(str(self.folder)), self.user_keys, META.shards)
        return UserExport(
            meta=META,
            profiles=self.profiles,
            rows=self.user_rows,
            follows=self.follows,
            suppressions=suppression.store,
            ledger=MemoryLedger(),
            inbox=self.inbox,
            held=MemoryHeldStore(),
            seen=MemorySeenStore(),
            due=MemoryDueIndex(META.shards),
            features=MemoryFeatureStore(),
            thresholds=MemoryThresholds(),
            outbox=self.outbox,
            events=self.events,
            log=log,
            belongings=Belongings(self.items, log),
        )

    def stories(self) -> Stories:
        """Return what reads the story of a message."""
        history = History(str(self.folder))
        log = DecisionLog(self.stream, history, self.user_keys, META.shards)
        return Stories(log, self.outbox, self.events, history, self.user_keys, META.shards)

    def explain(self, request: ScoreRequest, model_id: str) -> Explained:
        """Explain rows by the one model there is, whose state is empty; any other is gone."""
        bundle = bundle_of()
        if model_id != bundle.model_id:
            raise BundleError(f"{model_id}: there is no such model folder")
        return explain(bundle, self.model().prepare(request), request)

    def _check(self, part: str) -> None:
        if part in self.faults:
            raise ConnectionError(self.faults[part])


def client_of(app: FastAPI, token: str = "") -> httpx.AsyncClient:
    """Return a client of an application; errors of the application come back as the answers a caller would see."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=transport, base_url="http://tidings.test", headers=headers)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A gateway's parts."""
    return World(tmp_path)


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose key may do everything."""
    app = create_app(world.services())
    async with client_of(app, world.token(*EVERYTHING)) as client:
        yield client
    app.state.desk.close()
    app.state.health.close()
