"""What every due index promises."""

from __future__ import annotations

import numpy as np
import pytest

from lake.ids import shard_of
from lake.meta import Meta
from scheduler.due import DueIndex, MemoryDueIndex
from scheduler.redis_due import RedisDueIndex

META = Meta(shards=4)
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture(params=["memory", "redis"])
def due(request: pytest.FixtureRequest) -> DueIndex:
    if request.param == "memory":
        return MemoryDueIndex(META.shards)
    return RedisDueIndex(request.getfixturevalue("redis_client"), META.keys)


def test_users_are_due_in_their_slot_and_later_oldest_first(due: DueIndex) -> None:
    mine = [user for user in USERS if shard_of(user, META.shards) == 2][:4]
    due.enroll(mine, [12, 10, 11, 10])
    users, slots = due.due(2, 11, 10)
    assert (users, slots.tolist()) == ([*sorted([mine[1], mine[3]]), mine[2]], [10, 10, 11])
    assert due.due(2, 9, 10)[0] == []


def test_pages_cover_every_due_user_once(due: DueIndex) -> None:
    due.enroll(USERS, np.arange(len(USERS)))
    for shard in range(META.shards):
        pages = [due.due(shard, 99, 3, offset)[0] for offset in range(0, 40, 3)]
        assert [user for page in pages for user in page] == [user for user in USERS if shard_of(user, META.shards) == shard]


def test_counts_are_of_each_shard(due: DueIndex) -> None:
    due.enroll(USERS, [5] * 20 + [6] * 20)
    expected = [sum(shard_of(user, META.shards) == shard for user in USERS[:20]) for shard in range(META.shards)]
    assert due.counts(5).tolist() == expected
    assert due.counts(6).sum() == len(USERS)
    assert due.counts(4).tolist() == [0] * META.shards


def test_a_user_is_in_one_slot(due: DueIndex) -> None:
    due.enroll(["ann"], [5])
    due.enroll(["ann"], [9])
    assert due.slots(["ann", "bob"]).tolist() == [9, -1]
    assert due.counts(8).sum() == 0


def test_removed_users_are_due_no_more(due: DueIndex) -> None:
    due.enroll(["ann", "bob"], [5, 5])
    due.remove(["ann", "nobody"])
    assert due.slots(["ann", "bob"]).tolist() == [-1, 5]


def test_nobody_is_a_valid_answer_to_everything(due: DueIndex) -> None:
    due.enroll([], [])
    due.remove([])
    assert due.slots([]).tolist() == []
    assert due.due(0, 9, 10)[1].tolist() == []
