"""What every ledger promises, beside what the commit writes into it."""

from __future__ import annotations

import numpy as np
import pytest

from budgets.ledger import OPENED, used
from lake.ids import shard_of
from lake.meta import Meta
from tests.batches import NOW, Row, batch, entity_key, grant_id
from tests.commit_rig import Rig, memory_rig, redis_rig

META = Meta(shards=4)
USERS = [f"user-{number}" for number in range(20)]


@pytest.fixture(params=["memory", "redis"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        return memory_rig(META)
    return redis_rig(META, request.getfixturevalue("redis_client"))


def grant(rig: Rig, users: list[str], rows: list[Row]) -> None:
    for shard in range(META.shards):
        mine = [user for user in users if shard_of(user, META.shards) == shard]
        if mine:
            rig.committer.commit([batch(dict.fromkeys(mine, rows), shard=shard)])


def test_grants_are_read_in_the_order_of_the_users_asked_for(rig: Rig) -> None:
    grant(rig, USERS[:5], [Row("a")])
    ledger = rig.ledger.read(["nobody", *reversed(USERS[:5])])
    assert ledger.user.tolist() == [1, 2, 3, 4, 5]
    assert ledger.grant_id.tolist() == [grant_id(user, Row("a")) for user in reversed(USERS[:5])]


def test_reading_nobody_gives_empty_columns(rig: Rig) -> None:
    for users in ([], ["nobody"]):
        ledger = rig.ledger.read(users)
        assert len(ledger) == 0
        assert used(ledger, len(users), 2, NOW).shape == (len(users), 2)


def test_refunds_of_many_users_of_many_shards_come_back_in_order(rig: Rig) -> None:
    grant(rig, USERS[::2], [Row("a"), Row("b")])
    back = rig.ledger.refund(USERS, [grant_id(user, Row("a")) for user in USERS])
    assert back.tolist() == [True, False] * 10
    assert used(rig.ledger.read(USERS), len(USERS), 1, NOW)[:, 0].tolist() == [1, 0] * 10


def test_several_refunds_of_one_user_take_place_in_one_call(rig: Rig) -> None:
    grant(rig, ["ann"], [Row("a"), Row("b"), Row("c")])
    wanted = [grant_id("ann", Row(name)) for name in ("a", "c", "a")]
    assert rig.ledger.refund(["ann"] * 3, wanted).tolist() == [True, True, False]
    assert rig.ledger.read(["ann"]).grant_id.tolist() == [grant_id("ann", Row("b"))]


def test_opening_by_grant_or_by_entity_marks_what_was_granted(rig: Rig) -> None:
    grant(rig, ["ann"], [Row("a", value=0.9), Row("b", value=0.8), Row("c", value=0.7)])
    keys = [grant_id("ann", Row("a")), entity_key(Row("c")), entity_key(Row("z"))]
    assert rig.ledger.mark_opened(["ann"] * 3, keys).tolist() == [True, True, False]
    assert rig.ledger.read(["ann"]).flags.tolist() == [OPENED, 0, OPENED]


def test_changing_nothing_is_allowed(rig: Rig) -> None:
    assert rig.ledger.refund([], []).tolist() == []
    assert rig.ledger.mark_opened([], []).tolist() == []
    rig.ledger.delete([])


def test_a_forgotten_user_has_no_grants_and_a_whole_budget(rig: Rig) -> None:
    grant(rig, USERS[:3], [Row("a")])
    rig.ledger.delete(USERS[:2])
    assert used(rig.ledger.read(USERS[:3]), 3, 1, NOW)[:, 0].tolist() == [0, 0, 1]


def test_columns_have_their_types_also_when_empty(rig: Rig) -> None:
    grant(rig, ["ann"], [Row("a")])
    for users in (["ann"], []):
        ledger = rig.ledger.read(users)
        kinds = [getattr(ledger, name).dtype for name in ("user", "at", "grant_id", "entity", "version", "channel", "flags", "decision")]
        assert kinds == [np.dtype(kind) for kind in ("i4", "f8", "u8", "u8", "u4", "u1", "u1", "u4")]
