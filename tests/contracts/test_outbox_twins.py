"""The memory outbox and the one in the store, driven side by side through random histories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from delivery.outbox import Entry, MemoryOutbox, Outbox, Outcome, Retry
from delivery.redis_outbox import RedisOutbox
from lake.keys import Keys
from lake.messages import FIELD
from tests.unit.delivery.examples import NOW, a_message

SHARD = 0
NEVER_MS = 10**9
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add")),
        st.tuples(st.just("read"), st.sampled_from("ab"), st.integers(1, 4), st.sampled_from([0, NEVER_MS])),
        st.tuples(st.just("attempt"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("retry"), st.integers(0, 9), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.just("replay"), st.integers(0, 2)),
        st.tuples(st.just("drop"), st.integers(0, 2)),
    ),
    max_size=40,
)


@dataclass
class Side:
    """One outbox and every entry it ever handed out, so that old ones can be used again."""

    outbox: Outbox
    seen: list[Entry] = field(default_factory=list)

    def step(self, step: tuple[Any, ...], now: float) -> object:
        """Take one step and return what can be compared."""
        match step:
            case ("read", consumer, count, abandoned_after_ms):
                entries = self.outbox.read(SHARD, consumer, count, now, abandoned_after_ms)
                self.seen += entries
                return sorted((entry.message.grant_id, entry.tried, entry.open) for entry in entries)
            case ("attempt", consumer, place) if place < len(self.seen):
                return self.outbox.attempt(SHARD, consumer, [self.seen[place]], now)
            case ("settle", place, dead) if place < len(self.seen):
                return self.outbox.settle(SHARD, [Outcome(self.seen[place], "failed", "why", dead=dead)], now)
            case ("retry", place, after_s) if place < len(self.seen):
                entry = self.seen[place].answered(now, f"after {after_s} s: ü")
                return self.outbox.retry_later(SHARD, [Retry(entry, now + after_s)])
            case ("replay" | "drop" as what, place):
                letters = self.outbox.dead(SHARD, 10)[place : place + 1]
                return getattr(self.outbox, what)(SHARD, [letter.letter_id for letter in letters])
        return None

    def summary(self) -> object:
        """Return everything there is to see."""
        letters = [(letter.message, letter.reason, letter.attempts, letter.at) for letter in self.outbox.dead(SHARD, 100)]
        return self.outbox.backlog([SHARD]), letters, [record for _, record in self.outbox.outcomes(SHARD, "", 1000)]


@pytest.fixture
def store(redis_client: Redis) -> Redis:
    return redis_client


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=STEPS)
def test_both_do_the_same_through_any_history(store: Redis, steps: list[tuple[Any, ...]]) -> None:
    store.flushall()
    memory, keys = MemoryOutbox(), Keys(1)
    sides = (Side(memory), Side(RedisOutbox(store, keys)))
    now, granted = NOW, 0
    for step in steps:
        if step[0] == "add":
            granted += 1
            memory.add(SHARD, [a_message(granted)])
            store.xadd(keys.of_shard(Keys.OUTBOX, SHARD), {FIELD: a_message(granted).pack()})
        now += step[1] if step[0] == "wait" else 0
        assert sides[0].step(step, now) == sides[1].step(step, now), step
        assert sides[0].summary() == sides[1].summary()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(steps=STEPS)
def test_every_message_is_somewhere_or_has_one_outcome(store: Redis, steps: list[tuple[Any, ...]]) -> None:
    store.flushall()
    keys = Keys(1)
    side = Side(RedisOutbox(store, keys))
    now, granted = NOW, 0
    for step in steps:
        if step[0] == "add":
            granted += 1
            store.xadd(keys.of_shard(Keys.OUTBOX, SHARD), {FIELD: a_message(granted).pack()})
        if step[0] != "replay":  # a replayed message gets another outcome
            now += step[1] if step[0] == "wait" else 0
            side.step(step, now)
    ended = [record.grant_id for _, record in side.outbox.outcomes(SHARD, "", 1000)]
    (backlog,) = side.outbox.backlog([SHARD])
    assert len(ended) == len(set(ended))
    assert len(ended) + backlog.total == granted
