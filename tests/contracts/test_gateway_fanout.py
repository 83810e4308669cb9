"""What every store of jobs for large topics promises, and that jobs are done once however often workers die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from gateway.fanout import LEASE_S, PAGE, Fanout, FanoutStore, Job, MemoryFanout
from gateway.lane import MemoryLane
from gateway.redis_fanout import RedisFanout
from lake.clock import HeldClock
from scheduler.lanes import UrgentRequest

NOW = 1_700_000_000.25
STORES: dict[str, Callable[[Redis], FanoutStore]] = {"memory": lambda _: MemoryFanout(), "redis": RedisFanout}


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest, redis_client: Redis) -> FanoutStore:
    return STORES[request.param](redis_client)


def _job(decision_id: str = "d1") -> Job:
    item = {"item_id": "i1", "created_at": NOW, "topics": ["a", "b"], "title": "Hello \u2713"}
    return Job(UrgentRequest(item, "i1", [], ("push", "email"), False, "k1", decision_id), "t")


def test_a_job_reads_back_as_put_and_is_leased_to_one(jobs: FanoutStore) -> None:
    jobs.put(_job(), NOW)
    assert jobs.claim("a", NOW) == _job()
    assert jobs.claim("b", NOW) is None


def test_putting_a_job_again_does_not_free_it(jobs: FanoutStore) -> None:
    jobs.put(_job(), NOW)
    jobs.claim("a", NOW)
    jobs.put(_job(), NOW)
    assert jobs.claim("b", NOW) is None


def test_a_finished_job_is_gone(jobs: FanoutStore) -> None:
    jobs.put(_job(), NOW)
    jobs.claim("a", NOW)
    jobs.finish("d1", "a")
    assert jobs.claim("b", NOW + 10 * LEASE_S) is None


def test_the_job_that_was_free_first_comes_first(jobs: FanoutStore) -> None:
    jobs.put(_job("late"), NOW + 1)
    jobs.put(_job("early"), NOW)
    claimed = jobs.claim("a", NOW + 2)
    assert claimed is not None
    assert claimed.request.decision_id == "early"


def test_a_lease_that_lapsed_passes_on_and_its_old_holder_learns_it(jobs: FanoutStore) -> None:
    jobs.put(_job(), NOW)
    jobs.claim("a", NOW)
    assert jobs.renew("d1", "a", NOW + 2 * LEASE_S)
    assert jobs.claim("b", NOW + LEASE_S) is None
    assert jobs.claim("b", NOW + 2 * LEASE_S) == _job()
    assert not jobs.renew("d1", "a", NOW + 3 * LEASE_S)
    jobs.finish("d1", "a")
    assert jobs.renew("d1", "b", NOW + 3 * LEASE_S)


def test_of_many_who_claim_at_once_each_job_has_one(jobs: FanoutStore) -> None:
    for number in range(5):
        jobs.put(_job(f"d{number}"), NOW)
    with ThreadPoolExecutor(8) as threads:
        claimed = [job for job in threads.map(lambda worker: jobs.claim(str(worker), NOW), range(20)) if job is not None]
    assert sorted(job.request.decision_id for job in claimed) == [f"d{number}" for number in range(5)]


def _worker(jobs: FanoutStore, lane: MemoryLane, clock: HeldClock, name: str) -> Fanout:
    return Fanout(jobs, lane, clock, name, (ConnectionError,))


def test_every_follower_is_decided_under_the_jobs_decision(jobs: FanoutStore) -> None:
    lane, clock = MemoryLane({"t": [f"u{i}" for i in range(2_300)]}), HeldClock(NOW)
    worker = _worker(jobs, lane, clock, "a")
    worker.accept(_job().request, "t")
    assert worker.work()
    assert not worker.work()
    assert len(lane.granted) == 2_300 * 2
    assert set(lane.granted.values()) == {"d1"}
    assert max(len(request.users) for call in lane.calls for request in call) <= PAGE


def test_a_job_whose_worker_died_is_finished_by_another_with_the_same_grants(jobs: FanoutStore) -> None:
    lane, clock = MemoryLane({"t": [f"u{i}" for i in range(1_500)]}), HeldClock(NOW)
    first = _worker(jobs, lane, clock, "a")
    first.accept(_job().request, "t")

    def dies_on_the_second_page(_: object) -> None:
        if lane.calls:
            raise ConnectionError("gone")

    lane.before = dies_on_the_second_page
    with pytest.raises(ConnectionError):
        first.work()
    lane.before = lambda _: None
    clock.at = NOW + LEASE_S + 1
    assert _worker(jobs, lane, clock, "b").work()
    assert len(lane.granted) == 1_500 * 2
    assert set(lane.granted.values()) == {"d1"}


def test_a_job_given_back_is_free_at_once(jobs: FanoutStore) -> None:
    jobs.put(_job(), NOW)
    jobs.claim("a", NOW)
    assert jobs.renew("d1", "a", NOW)
    assert jobs.claim("b", NOW) == _job()


def test_a_worker_that_is_stopped_gives_its_job_back_after_the_page_at_hand(jobs: FanoutStore) -> None:
    lane, clock = MemoryLane({"t": [f"u{i}" for i in range(1_500)]}), HeldClock(NOW)
    worker = _worker(jobs, lane, clock, "a")
    lane.before = lambda _: worker.stop()
    worker.accept(_job().request, "t")
    assert worker.work()
    assert len(lane.calls) == 1
    assert jobs.claim("b", NOW) == _job()


def test_a_job_that_fails_leaves_the_gateway_and_the_other_jobs_alone(jobs: FanoutStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.fanout.IDLE_S", 0.01)
    lane, clock, decided = MemoryLane({"t": ["u1"]}), HeldClock(NOW), threading.Event()
    worker = _worker(jobs, lane, clock, "a")

    def fails_for_one(requests: Sequence[UrgentRequest]) -> None:
        if requests[0].decision_id == "bad":
            raise ValueError("cannot be decided")
        decided.set()

    lane.before = fails_for_one
    jobs.put(_job("bad"), NOW - 1)
    jobs.put(_job("good"), NOW)
    worker.start()
    assert decided.wait(30)
    worker.check()
    worker.stop()
    assert set(lane.granted.values()) == {"good"}
    again = jobs.claim("b", NOW + LEASE_S)
    assert again is not None
    assert again.request.decision_id == "bad"


def test_a_thread_takes_up_jobs_as_they_come(jobs: FanoutStore) -> None:
    lane, clock, decided = MemoryLane({"t": ["u1"]}), HeldClock(NOW), threading.Event()
    worker = _worker(jobs, lane, clock, "a")
    lane.before = lambda _: decided.set()
    worker.start()
    worker.check()
    worker.accept(_job().request, "t")
    assert decided.wait(30)
    worker.stop()
    assert len(lane.granted) == 2
    with pytest.raises(RuntimeError, match="has died"):
        worker.check()
