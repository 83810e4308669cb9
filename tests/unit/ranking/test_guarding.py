"""A replica whose features break says so, ranks on at the usual volume, and goes back to normal by itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lake.alarms import FRESH_S, Alarms, MemoryAlarms
from lake.items import ItemTable, MemoryItemStore
from lake.metrics import MemoryMetrics
from ranking import bundle as bundles
from ranking.bundle import Bundle
from ranking.features import FEATURES
from ranking.guard import GuardRule
from ranking.guarding import REPEAT_S, Guarding, Watchman
from ranking.in_service import Held
from ranking.ray_ranker import Ranking, Stores
from ranking.reference import Reference
from ranking.relief import model_of, scores_of
from ranking.scorer import Job, Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import bundle_of, write_bundle

AT = 1_700_000_000.0
RULE = GuardRule(sample_rows=200, block_rows=200, cell_s=60.0, cells=20, least_cells=6)


def request(seed: int) -> ScoreRequest:
    random = np.random.default_rng(seed + 10)
    user, item = np.sort(random.integers(0, 60, 400)).astype(np.int32), random.integers(0, 40, 400).astype(np.int32)
    names, items = [f"u{i}" for i in range(60)], [f"i{i}" for i in range(40)]
    return ScoreRequest(names, items, user, item, np.zeros(400, np.uint8), ("in_app",), AT + 60 * seed)


class Replica:
    """A scorer, its guard, and who tells what it found. `breaks`: whether authors, topics and ages of items are lost upstream."""

    def __init__(self, keep: Path | None = None, alarms: Alarms | None = None) -> None:
        self.features, self.breaks = MemoryFeatureStore(), False
        self.metrics = MemoryMetrics()
        self.watchman = Watchman(alarms if alarms is not None else MemoryAlarms(), self.metrics)
        for number in range(200):
            self.features.record_engagements([f"i{number % 40}"], [f"u{number % 60}"], [AT - 3600 * number])
        self.guarding = Guarding(RULE, keep)
        self.held = Held(Scorer(self._normal(bundle_of()), self.features, self._table()))

    def _table(self) -> ItemTable:
        items = MemoryItemStore()
        items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": f"u{i % 7}", "topics": ["a"]} for i in range(40)])
        return ItemTable(items)

    def _normal(self, bundle: Bundle) -> Bundle:
        jobs = [Scorer(bundle, self.features, self._table()).prepare(request(seed)) for seed in range(-4, 0)]
        rows = np.concatenate([job.features(slice(0, 400)) for job in jobs])
        return replace(bundle, normal=Reference.of(rows, scores_of(bundle, rows)))

    def play(self, seed: int, *, is_urgent: bool = False) -> Job:
        scorer, asked = self.held.serving, request(seed)
        if self.breaks:
            scorer = Scorer(scorer.bundle, self.features, ItemTable(MemoryItemStore()))
        job = scorer.prepare(asked, self.guarding.relief_for(asked, self.held.serving.model_id))
        for chunk in job.chunks():
            job.run(chunk)
        self.guarding.look(job, self.held, is_urgent=is_urgent)
        self.tell(job.at)
        return job

    def tell(self, now: float) -> None:
        serving = self.held.serving.bundle
        self.watchman.tell(self.guarding, now, serving.model_id, {serving.model_id: serving}.__getitem__)


@pytest.fixture
def alarms() -> MemoryAlarms:
    return MemoryAlarms()


@pytest.fixture
def replica(alarms: MemoryAlarms) -> Replica:
    replica = Replica(alarms=alarms)
    for seed in range(12):
        replica.play(seed)
    assert replica.guarding.relief is None
    return replica


def test_it_trips_says_so_once_and_is_at_rest_again_after_the_features_are(
    replica: Replica, alarms: MemoryAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = replica.metrics
    usual = [replica.play(seed).scores().value for seed in range(12, 15)]
    replica.breaks = True
    with caplog.at_level(logging.WARNING):
        for seed in range(15, 21):
            broken = replica.play(seed).scores().value
        ringing = list(alarms.ringing(AT + 60 * 20).values())
        assert len(ringing) == 1
        assert "sends as much as before" in ringing[0].text
        assert ringing[0].since < ringing[0].at
        assert AT + 60 * 20 - ringing[0].at < REPEAT_S
        assert np.quantile(broken, [0.5, 0.9]) == pytest.approx(np.quantile(usual, [0.5, 0.9]), abs=0.05)
        assert metrics.gauges["tidings_guard_columns_out", ()] > 0
        replica.breaks = False
        for seed in range(21, 25):
            replica.play(seed)
    assert replica.guarding.relief is None
    assert not alarms.alarms
    assert metrics.counters["tidings_guard_trips_total", ()] == 1
    assert metrics.gauges["tidings_guard_columns_out", ()] == 0
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the guard tripped",
        "the guard is at rest again",
    ]


def test_an_alarm_stands_as_long_as_its_replica_does_however_seldom_anything_is_scored(replica: Replica, alarms: MemoryAlarms) -> None:
    replica.breaks = True
    for seed in range(15, 18):
        replica.play(seed)
    other, tripped_at = Replica(alarms=alarms), AT + 60 * 17
    for minute in range(0, 26 * 60, 5):  # the next windows are tomorrow's
        replica.tell(tripped_at + 60 * minute)
        other.tell(tripped_at + 60 * minute)
        assert other.guarding.relief is not None
    other.tell(tripped_at + 60 * minute + FRESH_S + 1)
    assert other.guarding.relief is None, "it is gone, and nobody else has found anything"


def test_urgent_jobs_are_not_looked_at(replica: Replica) -> None:
    replica.breaks = True
    for seed in range(15, 19):
        replica.play(seed, is_urgent=True)
    assert replica.guarding.relief is None


def test_a_new_model_keeps_what_was_learned_unless_the_guard_is_tripped(replica: Replica) -> None:
    learned, other = replica.guarding._guard, replace(replica.held.serving.bundle, model_id="other")
    replica.guarding.follow(other)
    assert replica.guarding._guard is learned
    replica.breaks = True
    replica.held = Held(Scorer(other, replica.features, replica._table()))
    replica.play(15)
    assert replica.guarding.relief is not None
    third = replace(other, model_id="third")
    replica.guarding.follow(third)
    assert replica.guarding._guard is not learned
    assert replica.guarding.relief_for(request(16), "third") is None, "what was wrong before it came is none of its business"


def test_what_was_learned_serves_the_replica_that_starts_next(replica: Replica, tmp_path: Path) -> None:
    replica.guarding.keep = tmp_path / "guard.npz"
    replica.guarding.save()
    second = Replica(replica.guarding.keep)
    second.play(15)
    mine, theirs = replica.guarding._guard, second.guarding._guard
    assert mine is not None
    assert theirs is not None
    assert theirs.memory.known.sum() >= mine.memory.known.sum()


def test_replicas_that_saw_nothing_wrong_rank_as_the_one_that_did_and_one_id_is_one_answer(replica: Replica, alarms: MemoryAlarms) -> None:
    other, restarted = Replica(alarms=alarms), Replica(alarms=alarms)
    other.play(14)
    replica.breaks = other.breaks = restarted.breaks = True
    for seed in range(15, 21):
        replica.play(seed)
    for each in (other, restarted):
        each.tell(AT + 60 * 21)
    jobs = [each.play(30).scores() for each in (replica, other, restarted)]
    plain = replica.held.serving.model_id
    assert {scores.model_id for scores in jobs} == {jobs[0].model_id} != {plain}
    assert model_of(jobs[0].model_id) == plain
    for scores in jobs[1:]:
        assert np.array_equal(scores.probability, jobs[0].probability)
        assert np.array_equal(scores.value, jobs[0].value)


def test_a_call_that_asks_for_a_model_by_its_id_gets_what_the_id_says(replica: Replica) -> None:
    serving = replica.held.serving.model_id
    replica.breaks = True
    replica.play(15)
    first = replica.guarding.relief
    replica.play(16)
    second = replica.guarding.relief
    assert first is not None
    assert second is not None
    assert first.bundle.model_id != second.bundle.model_id, "another map is another id"
    for wanted, found in ((first.bundle.model_id, first), (second.bundle.model_id, second), (serving, None), ("", second)):
        assert replica.guarding.relief_for(replace(request(20), model_id=wanted), serving) is found
    replica.breaks, last = False, second
    for seed in range(17, 22):
        replica.play(seed)
        last = replica.guarding.relief or last
    assert replica.guarding.relief is None
    assert replica.guarding.relief_for(replace(request(22), model_id=last.bundle.model_id), serving) is last


def test_before_a_day_is_known_it_gives_an_alarm_and_the_models_own_scores(alarms: MemoryAlarms) -> None:
    fresh = Replica(alarms=alarms)
    fresh.breaks = True
    for seed in range(3):
        scores = fresh.play(seed).scores()
        assert scores.model_id == fresh.held.serving.model_id
    assert ["too little is known of normal days" in alarm.text for alarm in alarms.alarms.values()] == [True]
    assert fresh.guarding.relief is None


def test_a_relief_whose_model_is_not_at_hand_is_told_once_and_the_model_ranks_as_ever(
    replica: Replica, alarms: MemoryAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    replica.breaks = True
    replica.play(15)
    other = Replica(alarms=alarms)

    def nowhere(model_id: str) -> Bundle:
        raise bundles.BundleError(f"model {model_id} is gone")

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            other.watchman.tell(other.guarding, AT + 60 * 15, replica.held.serving.model_id, nowhere)
    assert other.guarding.relief is None
    assert [record.getMessage() for record in caplog.records if "is gone" in record.getMessage()] == [
        f"ranks as ever, though the guard of a replica has tripped: model {replica.held.serving.model_id} is gone"
    ]


async def test_a_ranker_that_watches_answers_as_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "verify", lambda folder: bundles.load(folder, verified=True))
    alarms: Alarms = MemoryAlarms()
    folder = str(write_bundle(tmp_path / "model"))
    features, items = MemoryFeatureStore(), MemoryItemStore()
    watching, other = (
        Ranking(folder, lambda: Stores(features, items, alarms=alarms), guard=rule, look_every_s=60) for rule in (RULE, None)
    )
    assert np.array_equal((await watching.score(request(0))).value, (await other.score(request(0))).value)
    assert (await watching.standing()).alarm == ""
    for ranking in (watching, other):
        ranking.stop()


def test_a_bundle_keeps_what_is_normal_and_its_id_does_not_depend_on_it(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(500, len(FEATURES))).astype(np.float32)
    plain = bundle_of()
    normal = Reference.of(rows, scores_of(plain, rows))
    bundles.write(tmp_path / "m", plain.booster, plain.calibration, {}, plain.window, 2.0, normal=normal)
    loaded = bundles.load(tmp_path / "m", verified=True)
    assert loaded.model_id == plain.model_id
    assert loaded.normal is not None
    assert np.array_equal(loaded.normal.edges, normal.edges)
    (tmp_path / "m" / bundles.NORMAL).write_text("{}")
    with pytest.raises(bundles.BundleError, match=r"normal\.json"):
        bundles.load(tmp_path / "m", verified=True)
