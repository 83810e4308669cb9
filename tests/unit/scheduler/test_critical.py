"""Critical rows and the quota of the key that asks for them, in memory and in the real store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from redis import Redis

from budgets.critical_quota import CriticalQuota, MemoryCriticalQuota, Spent
from budgets.redis_critical_quota import RedisCriticalQuota
from lake.ids import Keys64
from scheduler.lanes import UrgentLane, UrgentRequest
from scheduler.pipeline import PipelineConfig
from scheduler.report import LaneReport
from tests.unit.scheduler.test_pipeline import META, MONDAY_NOON, USERS, World, furnished, urgent

NOW = MONDAY_NOON - 1800


@dataclass
class Watched:
    """A quota that counts how often it is asked."""

    inner: CriticalQuota
    asked: int = 0

    def spend(self, key_id: str, uses: Keys64, limit: int, now: float) -> Spent:
        self.asked += 1
        return self.inner.spend(key_id, uses, limit, now)

    def give_back(self, key_id: str, uses: Keys64, now: float) -> None:
        self.inner.give_back(key_id, uses, now)

    def spent(self, key_id: str, now: float) -> int:
        return self.inner.spent(key_id, now)


@dataclass
class Place:
    """A lane whose keys may cause three critical rows a day."""

    world: World
    quota: Watched
    reports: list[LaneReport] = field(default_factory=list)

    def decide(self, *requests: UrgentRequest, at: float = NOW) -> list[list[tuple[str, str]]]:
        pipeline = replace(self.world.pipeline(), critical_quota=self.quota, config=PipelineConfig(critical_per_day=3))
        lane = UrgentLane(pipeline, self.world.follows, self.world.held, lambda _, report: self.reports.append(report))
        return [list(zip(each.disposition, each.reason, strict=True)) for each in lane.decide(list(requests), at)]

    def spent(self, key_id: str = "key") -> int:
        return self.quota.spent(key_id, NOW)


@pytest.fixture(params=["memory", "store"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return Place(furnished(World.in_memory()), Watched(MemoryCriticalQuota()))
    client: Redis = request.getfixturevalue("redis_client")
    return Place(furnished(World.in_store(client)), Watched(RedisCriticalQuota(client, META.keys)))


SENT, REFUSED = ("send", "critical"), ("ineligible", "critical_quota")


def test_beyond_the_quota_of_its_key_a_critical_row_is_ineligible_and_the_use_is_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    [found] = place.decide(urgent("x", USERS, critical=True))
    assert sorted(found) == [REFUSED, SENT, SENT, SENT]
    assert (len(place.world.messages()), place.spent()) == (3, 3)
    logged = place.world.logged()
    assert sorted(zip(logged["disposition"], logged["reason"], strict=True)) == sorted(found)
    assert (logged["propensity"] == np.where(logged["disposition"] == "send", 1.0, 0.0)).all()
    assert "key key asks for 4 rows, 1 of them beyond its 3 a day" in caplog.text
    assert (place.reports[0].critical_sent, place.reports[0].critical_refused) == (3, 1)


def test_a_decision_that_is_repeated_pays_once_and_sends_the_same(place: Place) -> None:
    first = place.decide(urgent("x", USERS, critical=True))
    assert place.decide(urgent("x", USERS, critical=True)) == first
    assert (len(place.world.messages()), place.spent()) == (3, 3)


def test_a_decision_whose_commit_was_lost_pays_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patched:
        patched.setattr(type(place.world.committer), "commit", lost)
        with pytest.raises(ConnectionError):
            place.decide(urgent("x", ["ann"], critical=True))
    assert place.decide(urgent("x", ["ann"], critical=True)) == [[SENT]]
    assert place.spent() == 1


def test_what_is_not_sent_costs_nothing(place: Place) -> None:
    """Unknown users never get so far; what another request of the same call sent is given back by the second."""
    (first, second) = place.decide(urgent("x", ["ann", "stranger"], critical=True), urgent("x", ["ann"], critical=True, decision_id="d2"))
    assert first == [SENT, ("ineligible", "unknown_user")]
    assert second == [("duplicate", "already_sent")]
    assert place.spent() == 1


def test_every_key_has_its_own_day_and_may_have_its_own_quota(place: Place) -> None:
    one, other = urgent("x", USERS, critical=True), urgent("y", USERS, critical=True, decision_id="d2")
    small, large = replace(one, critical_quota=1), replace(other, key_id="other", critical_quota=50)
    first, second = place.decide(small, large)
    assert sorted(first) == [REFUSED, REFUSED, REFUSED, SENT]
    assert second == [SENT] * 4
    assert (place.spent(), place.spent("other")) == (1, 4)


def test_a_request_that_is_not_critical_never_asks_for_a_quota(place: Place) -> None:
    place.decide(urgent("x", USERS), urgent("y", USERS, decision_id="d2"))
    assert place.quota.asked == 0
    assert place.reports[0].critical_sent == 0


def test_a_new_day_has_its_quota_anew(place: Place) -> None:
    place.decide(urgent("x", USERS, critical=True))
    [found] = place.decide(urgent("y", USERS, critical=True, decision_id="d2"), at=NOW + 86400)
    assert sorted(found) == [REFUSED, SENT, SENT, SENT]
