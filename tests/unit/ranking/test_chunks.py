"""Urgent first, small ones together, big ones in turns."""

from __future__ import annotations

import numpy as np

from lake.items import ItemTable, MemoryItemStore
from ranking.chunks import ChunkQueue, Running, merge, split
from ranking.scorer import Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import scorer_of

AT = 1_700_000_000.0


def scorer() -> Scorer:
    items = MemoryItemStore()
    items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": "u1", "topics": ["a"]} for i in range(5)])
    store = MemoryFeatureStore()
    store.record_engagements(["i1", "i2", "i2"], ["u1", "u1", "u2"], [AT - 60, AT - 50, AT - 40])
    return scorer_of(store, ItemTable(items))


def request(seed: int, rows: int, channels: tuple[str, ...] = ("in_app", "email")) -> ScoreRequest:
    random = np.random.default_rng(seed)
    users, items = [f"u{i}" for i in random.permutation(9)[:6]], [f"i{i}" for i in random.permutation(7)[:4]]
    user, item = random.integers(0, 6, rows).astype(np.int32), random.integers(0, 4, rows).astype(np.int32)
    return ScoreRequest(users, items, user, item, random.integers(0, 2, rows).astype(np.uint8), channels, AT + seed)


def test_merged_requests_get_the_scores_they_would_get_alone() -> None:
    model = scorer()
    requests = [request(0, 9), request(1, 4, ("push", "in_app")), request(2, 0), request(3, 30)]
    job = model.prepare(merge(requests))
    for chunk in job.chunks():
        job.run(chunk)
    for mine, asked in zip(split(job.scores(), requests), requests, strict=True):
        alone = model.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, float(asked.at))
        assert np.array_equal(mine.probability, alone.probability)
        assert mine.known_item.tolist() == alone.known_item.tolist()
        assert mine.known_user.tolist() == alone.known_user.tolist()


def test_urgent_requests_are_taken_first_and_together_up_to_the_limit() -> None:
    queue: ChunkQueue[str] = ChunkQueue(merge_rows=100)
    queue.put("window", request(0, 50), is_urgent=False)
    for name, rows in (("a", 40), ("b", 50), ("c", 20), ("d", 500)):
        queue.put(name, request(1, rows), is_urgent=True)
    taken = []
    while (work := queue.take()) is not None:
        assert not isinstance(work, Running)
        taken.append(([ticket for ticket, _ in work[0]], work[1]))
    assert taken == [(["a", "b"], True), (["c"], True), (["d"], True), (["window"], False)]
    assert len(queue) == 0


def test_a_small_urgent_request_waits_for_one_chunk_of_a_big_one_at_most() -> None:
    model, queue = scorer(), ChunkQueue[str](merge_rows=10)
    model.chunk_rows = 10
    order: list[str] = []
    queue.put("big", request(0, 35), is_urgent=False)
    while (work := queue.take()) is not None:
        if not isinstance(work, Running):
            job = model.prepare(merge([asked for _, asked in work[0]]))
            work = Running(work[0], job, job.chunks(), work[1])
        if work.step():
            order.extend(ticket for ticket, _ in work.results())
        else:
            queue.put_back(work)
        if work.tickets[0][0] == "big" and work.done == 2:
            queue.put("small", request(1, 5), is_urgent=True)
    assert order == ["small", "big"]


def test_a_request_without_rows_is_done_at_once() -> None:
    job = scorer().prepare(request(0, 0))
    running = Running([("t", request(0, 0))], job, job.chunks(), is_urgent=True)
    assert running.step()
    assert len(running.results()[0][1].probability) == 0
