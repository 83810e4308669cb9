"""The committer in memory and the one on a server, driven side by side: they never disagree, and no budget is overspent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule, run_state_machine_as_test
from redis import Redis

from budgets.ledger import CRITICAL, ROLLING_S, UPDATED
from lake.meta import Meta
from scheduler.commit import NO_SLOT, CommitBatch, CommitResult
from scheduler.lease import shard_lease
from tests.batches import DAY_S, NOW, Row, batch, entity_key, grant_id
from tests.commit_rig import Rig, memory_rig, redis_rig

META = Meta(shards=1)
USERS = ("ann", "bob", "eve")
BUDGET = {0: 2, 1: 1}

rows = st.builds(
    Row,
    item=st.sampled_from("abcdef"),
    channel=st.sampled_from(sorted(BUDGET)),
    value=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    entity=st.sampled_from(["", "thing", "other"]),
    version=st.integers(0, 3),
    hold=st.booleans(),
    critical=st.sampled_from([False, False, False, True]),
    decision=st.sampled_from(["one", "two"]),
    expires_at=st.sampled_from([NOW + DAY_S, float("inf")]),
).map(lambda row: replace(row, budget=BUDGET[row.channel]))
audiences = st.dictionaries(st.sampled_from(USERS), st.lists(rows, max_size=4), min_size=1)


class BothCommitters(RuleBasedStateMachine):
    """Sends every step to both and compares what they answer and what they hold afterwards."""

    client: Redis
    batches: Bundle[CommitBatch] = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.rigs: tuple[Rig, Rig] = (memory_rig(META), redis_rig(META, self.client))
        self.now = NOW
        self.slot = 100
        self.fence = 0
        self.spent: list[tuple[str, int, float, int]] = []

    @initialize()
    def enroll(self) -> None:
        for rig in self.rigs:
            rig.due.enroll(USERS[:2], [self.slot] * 2)

    @rule(seconds=st.sampled_from([0.0, 1.0, 3600.0, DAY_S, ROLLING_S - DAY_S, ROLLING_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(owner=st.sampled_from(["a", "b"]))
    def take_the_shard(self, owner: str) -> None:
        tokens = [rig.leases.acquire(shard_lease(0), owner, self.now, 60.0) for rig in self.rigs]
        assert tokens[0] == tokens[1]
        self.fence = tokens[0] or self.fence

    @rule(target=batches, audience=audiences, behind_s=st.sampled_from([0.0, 0.0, 0.5, 2.0]))
    def decide_urgently(self, audience: dict[str, list[Row]], behind_s: float) -> CommitBatch:
        """`behind_s`: how far the clock of the host that decides runs behind the others'."""
        return self.commit(batch(audience, now=self.now - behind_s, next_slot=self.slot + 1, log_blob=b"rows"))

    @rule(target=batches, audience=audiences, window=st.integers(0, 3), on=st.integers(0, 2), stale=st.booleans(), data=st.data())
    def decide_a_window(self, audience: dict[str, list[Row]], window: int, on: int, stale: bool, data: st.DataObject) -> CommitBatch:
        fence = max(self.fence - stale, 0)
        held = [(user, row.item_id, row.channel) for user in audience for row in self.rigs[0].held.read([user])[0]]
        released = data.draw(st.lists(st.sampled_from(held), unique=True)) if held else []
        slot = data.draw(st.sampled_from([self.slot, self.slot + 1]))
        where: dict[str, Any] = {"slot": slot, "next_slot": self.slot + on or NO_SLOT, "fence": fence}
        return self.commit(batch(audience, now=self.now, lane="scheduled", window=window, released=released, **where))

    @rule()
    def open_the_next_slot(self) -> None:
        self.slot += 1

    @rule(target=batches, sent=consumes(batches))
    def send_again(self, sent: CommitBatch) -> Any:
        self.commit(sent)
        return multiple()

    @rule(sent=batches, later_s=st.sampled_from([0.0, 5.0]))
    def decide_again(self, sent: CommitBatch, later_s: float) -> None:
        """The same decision in a new batch, as after a crash of whoever sent the first."""
        self.commit(replace(sent, batch_id=sent.batch_id[::-1], now=max(self.now, sent.now) + later_s))

    @rule(user=st.sampled_from(USERS), data=st.data())
    def refund(self, user: str, data: st.DataObject) -> None:
        ledger = self.rigs[0].ledger.read([user])
        known = [*ledger.grant_id.tolist(), grant_id(user, Row("a"))]
        chosen = data.draw(st.sampled_from(known))
        back = [rig.ledger.refund([user], [chosen]).tolist() for rig in self.rigs]
        assert back[0] == back[1]
        if back[0][0]:
            self.spent = [unit for unit in self.spent if unit[3] != chosen]

    @rule(user=st.sampled_from(USERS), row=rows, whole=st.booleans())
    def open(self, user: str, row: Row, whole: bool) -> None:
        key = entity_key(row) if whole else grant_id(user, row)
        opened = [rig.ledger.mark_opened([user], [key]).tolist() for rig in self.rigs]
        assert opened[0] == opened[1]

    def commit(self, proposed: CommitBatch) -> CommitBatch:
        before = [len(rig.outbox(0)) for rig in self.rigs]
        results = [rig.committer.commit([proposed])[0] for rig in self.rigs]
        assert_equal(*results)
        news = [rig.outbox(0)[count:] for rig, count in zip(self.rigs, before, strict=True)]
        assert news[0] == news[1]
        for message in news[0]:
            if not message.update and not message.critical:
                channel = META.channels.index(message.channel)
                self.spent.append((message.user_id, channel, message.granted_at, int(message.grant_id, 16)))
        return proposed

    @invariant()
    def both_hold_the_same(self) -> None:
        memory, server = self.rigs
        mine, theirs = memory.ledger.read(USERS), server.ledger.read(USERS)
        assert {name: column.tolist() for name, column in vars(mine).items()} == {
            name: column.tolist() for name, column in vars(theirs).items()
        }
        assert memory.due.slots(USERS).tolist() == server.due.slots(USERS).tolist()
        assert memory.outbox(0) == server.outbox(0)
        assert [(entry.blob, entry.final) for entry in memory.log(0)] == [(entry.blob, entry.final) for entry in server.log(0)]
        for kept, stored in zip(memory.held.read(USERS), server.held.read(USERS), strict=True):
            assert [row for row in kept if row.expires_at > self.now] == [row for row in stored if row.expires_at > self.now]

    @invariant()
    def no_seven_days_hold_more_than_the_budget(self) -> None:
        for user, channel, end, _ in self.spent:
            inside = [at for name, kind, at, _ in self.spent if (name, kind) == (user, channel) and end - ROLLING_S <= at <= end]
            assert len(inside) <= BUDGET[channel]

    @invariant()
    def every_grant_was_enqueued(self) -> None:
        enqueued = {(message.user_id, int(message.grant_id, 16)) for message in self.rigs[1].outbox(0)}
        ledger = self.rigs[1].ledger.read(USERS)
        granted = {(USERS[code], key) for code, key in zip(ledger.user.tolist(), ledger.grant_id.tolist(), strict=True)}
        assert granted <= enqueued
        assert not set(ledger.flags.tolist()) - set(range(CRITICAL + UPDATED + 2))


def assert_equal(mine: CommitResult, theirs: CommitResult) -> None:
    assert mine.evicted == theirs.evicted
    for name in ("status", "disposition", "reason"):
        assert getattr(mine, name).tolist() == getattr(theirs, name).tolist(), name


@pytest.mark.timeout(600)
def test_the_committer_in_memory_and_the_one_on_a_server_never_disagree(redis_client: Redis) -> None:
    machine = type("Machine", (BothCommitters,), {"client": redis_client})
    run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=60, stateful_step_count=30, deadline=None))
