"""The scorer behind Serve: however many calls it takes, every row gets its own score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from lake.decisions import Candidates
from lake.ids import hash64
from ranking.scorer import ScoreRequest, Scores
from scheduler import ray_scorer
from scheduler.ray_scorer import HandleScorer

CHANNELS = ("in_app", "push")


@dataclass
class Answer:
    """What the handle's call gives back."""

    scores: Scores

    def result(self, timeout_s: float) -> Scores:
        assert timeout_s > 0
        return self.scores


@dataclass
class Ranker:
    """Stands in for the method of the deployment's handle: a row's score is made of its own ids."""

    calls: list[tuple[ScoreRequest, bool]] = field(default_factory=list)

    def remote(self, request: ScoreRequest, is_urgent: bool) -> Answer:
        self.calls.append((request, is_urgent))
        made = score_of(request.users, request.items, request.user, request.item, request.channel)
        return Answer(Scores(made, made * 2, "m", np.ones(len(request.users), bool), np.ones(len(request.items), bool)))


def score_of(users: list[str], items: list[str], user: Any, item: Any, channel: Any) -> Any:
    mixed = hash64(users)[user] ^ (hash64(items)[item] + channel.astype(np.uint64))
    return (mixed % np.uint64(1000)).astype(np.float32)


@pytest.fixture
def rows() -> Callable[[int], Candidates]:
    def make(n: int) -> Candidates:
        random = np.random.default_rng(n)
        user = np.sort(random.integers(3, 40, n)).astype(np.int32)
        item, channel = random.integers(0, 5, n).astype(np.int32), random.integers(0, 2, n).astype(np.uint8)
        users, items = [f"u{i}" for i in range(40)], [f"i{i}" for i in range(5)]
        return Candidates(users, items, user, item, channel, np.zeros(n, np.uint8), ("new_posts",), np.zeros(n, np.int32))

    return make


@pytest.mark.parametrize(("n", "calls"), [(0, 1), (1, 1), (100, 1), (130, 2), (450, 5)])
def test_every_row_gets_its_own_score(n: int, calls: int, rows: Callable[[int], Candidates], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_scorer, "MOST_ROWS", 100)
    asked, ranker = rows(n), Ranker()
    scores = HandleScorer(cast("Any", ranker))(asked, CHANNELS, 1e9, "scheduled")
    wanted = score_of(asked.users, asked.items, asked.user, asked.item, asked.channel)
    np.testing.assert_array_equal(scores.probability, wanted)
    np.testing.assert_array_equal(scores.value, wanted * 2)
    assert scores.model_id == "m"
    assert len(ranker.calls) == calls
    told = [user for request, _ in ranker.calls for user in request.users]
    assert len(set(told)) == len(told), "a user's rows are in one call"
    of_a_user = int(np.bincount(asked.user).max()) if n else 0
    assert all(len(request) < 100 + of_a_user for request, _ in ranker.calls)


def test_a_call_names_only_the_users_it_is_about_and_says_whether_it_is_urgent(rows: Callable[[int], Candidates]) -> None:
    ranker, asked = Ranker(), rows(200)
    HandleScorer(cast("Any", ranker))(asked, CHANNELS, 1e9, "urgent")
    ((request, is_urgent),) = ranker.calls
    assert is_urgent
    assert request.users == asked.users[asked.user.min() : asked.user.max() + 1]


@dataclass
class Changing:
    """Replicas that take turns: each has its models, the one that serves first; a row's score is its model's number."""

    replicas: list[list[str]]
    calls: int = 0

    def remote(self, request: ScoreRequest, is_urgent: bool) -> Answer:
        held = self.replicas[self.calls % len(self.replicas)]
        self.calls += 1
        model_id = request.model_id if request.model_id in held else held[0]
        made = np.full(len(request.user), float(model_id), np.float32)
        return Answer(Scores(made, made, model_id, np.ones(len(request.users), bool), np.ones(len(request.items), bool)))


def test_a_call_in_several_parts_is_of_one_model_also_while_replicas_change(
    rows: Callable[[int], Candidates], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_scorer, "MOST_ROWS", 100)
    scores = HandleScorer(cast("Any", Changing([["1"], ["2", "1"]])))(rows(450), CHANNELS, 1e9, "scheduled")
    assert set(scores.probability.tolist()) == {float(scores.model_id)}
    with pytest.raises(ray_scorer.MixedModelsError):
        HandleScorer(cast("Any", Changing([["1"], ["2"], ["3"]])))(rows(450), CHANNELS, 1e9, "scheduled")
