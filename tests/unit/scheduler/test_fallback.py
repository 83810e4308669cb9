"""Decisions while no model serves: by popularity, marked as such, and by the model again as soon as it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from lake.decisions import Candidates, Lane
from lake.items import ItemTable
from ranking.popular_scorer import Popularity
from ranking.popularity import MODEL_ID
from ranking.store import MemoryFeatureStore
from scheduler.fallback import SETTINGS, Fallback
from scheduler.lanes import UrgentLane
from scheduler.scoring import Scores
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, USERS, Fixed, World, furnished, urgent

NOW = MONDAY_NOON - 1800


class MixedError(TimeoutError):
    """A kind of being away that passes by itself."""


@dataclass
class Ranker:
    """A ranker that may be away, and counts who asks."""

    error: Exception | None = None
    times: int = 1_000
    model: Fixed = field(default_factory=lambda: Fixed(model_id="model"))
    asked: int = 0

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        self.asked += 1
        if self.error is not None and self.times > 0:
            self.times -= 1
            raise self.error
        return self.model(rows, channels, now, lane)


@dataclass
class House:
    """A lane over a ranker that may be away."""

    world: World = field(default_factory=lambda: furnished(World.in_memory()))
    ranker: Ranker = field(default_factory=Ranker)
    counted: list[int] = field(default_factory=list)
    decisions: int = 0
    passed_s: float = 0.0

    def __post_init__(self) -> None:
        self.pipeline = self.world.pipeline()
        popularity = Popularity(MemoryFeatureStore(), ItemTable(self.world.items))
        self.pipeline.scorer = Fallback(
            self.ranker, popularity, (ConnectionError, TimeoutError), (MixedError,), self.counted.append, lambda: self.passed_s
        )

    def decide(self, now: float = NOW) -> tuple[str, str]:
        """Decide a new item for everyone; return the model's id in the log and in the answer."""
        self.decisions += 1
        name = f"n{self.decisions}"
        self.world.items.put([{"item_id": name, "created_at": now - 1, "half_life_s": 600.0}])
        (result,) = UrgentLane(self.pipeline, self.world.follows, self.world.held).decide([urgent(name, USERS, decision_id=name)], now)
        logged = self.world.logged()
        (logged_id,) = set(logged[logged["decision_id"] == name]["model_id"])
        return str(logged_id), result.model_id


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("error", [TimeoutError("no replica"), ConnectionError("refused")])
def test_while_the_ranker_is_away_popularity_decides_and_every_row_and_answer_says_so(house: House, error: Exception) -> None:
    assert house.decide() == ("model", "model")
    house.ranker.error = error
    assert house.decide() == (MODEL_ID, MODEL_ID)
    assert house.counted == [len(USERS)]
    assert {message.model_id for message in house.world.messages()} == {"model", MODEL_ID}


def test_after_a_few_failures_nobody_waits_for_the_ranker_and_it_is_back_by_itself(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.ranker.error = TimeoutError("no replica")
    for _ in range(20):
        assert house.decide()[0] == MODEL_ID
    assert house.ranker.asked == SETTINGS.failures
    house.passed_s = SETTINGS.rest_s
    assert house.decide()[0] == MODEL_ID
    assert house.ranker.asked == SETTINGS.failures + 1
    house.ranker.error = None
    house.passed_s += SETTINGS.rest_s - 1
    assert house.decide()[0] == MODEL_ID
    house.passed_s += 1
    assert house.decide() == ("model", "model")
    assert house.decide() == ("model", "model")
    told = [record.getMessage() for record in caplog.records if record.name == "scheduler.fallback"]
    assert told == ["no model serves: rows are scored by popularity until one does", "a model serves again"]


@pytest.mark.parametrize("error", [ValueError("a bug"), MixedError("changing models")])
def test_what_is_no_outage_is_raised(house: House, error: Exception) -> None:
    house.ranker.error = error
    with pytest.raises(type(error)):
        house.decide()
    assert house.counted == []


def test_a_call_that_died_with_its_replica_is_made_once_more(house: House) -> None:
    house.ranker.error, house.ranker.times = ConnectionError("the actor died"), 1
    assert house.decide() == ("model", "model")
    assert house.counted == []


def test_a_window_is_decided_too(house: House) -> None:
    house.ranker.error = TimeoutError("no replica")
    house.world.pipeline = lambda: house.pipeline  # type: ignore[method-assign]
    told = house.world.tick(MONDAY_NOON)
    assert {outcome[0] for outcome in told["ann"].values()} == {"send"}
    assert set(house.world.logged()["model_id"]) == {MODEL_ID}
