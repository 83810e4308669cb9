"""What every committer promises of rows that are told together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budgets.ledger import used
from lake.decisions import DISPOSITIONS, REASONS
from lake.meta import Meta
from scheduler.commit import Digests
from tests.batches import NOW, Row, batch, grant_id
from tests.commit_rig import Rig, memory_rig, redis_rig

META = Meta(shards=1)
LEAD = Row("a", value=0.9, budget=1)
RIDERS = (Row("b", value=0.8, rides_with="a"), Row("c", value=0.7, rides_with="a"))


@pytest.fixture(params=["memory", "redis"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        return memory_rig(META)
    return redis_rig(META, request.getfixturevalue("redis_client"))


def told(rig: Rig, *rows: Row) -> list[tuple[str, str]]:
    """Commit rows for ann and return what became of each, by descending value."""
    result = rig.committer.commit([batch({"ann": rows})])[0]
    return [(DISPOSITIONS[code], REASONS[why]) for code, why in zip(result.disposition, result.reason, strict=True)]


def test_several_things_are_granted_as_one_message_and_one_unit(rig: Rig) -> None:
    assert told(rig, LEAD, *RIDERS) == [("send", "above_threshold"), ("digest", "in_digest"), ("digest", "in_digest")]
    (message,) = rig.outbox(0)
    assert (message.item_ids, message.digest_by) == (("a", "b", "c"), "topic:*")
    assert message.grant_ids == tuple(f"{grant_id('ann', row):016x}" for row in (LEAD, *RIDERS))
    assert message.entity == message.grant_id
    assert used(rig.ledger.read(["ann"]), 1, 1, NOW).tolist() == [[1]]


def test_nothing_of_a_digest_is_granted_again_and_its_news_are_a_thing_of_their_own(rig: Rig) -> None:
    told(rig, replace(LEAD, budget=9), *RIDERS)
    assert told(rig, replace(LEAD, decision="e"), Row("c", decision="e")) == [("duplicate", "already_sent")] * 2
    news = [Row(f"{name}2", entity=name, version=1, budget=2, value=value) for name, value in (("a", 0.9), ("b", 0.8))]
    assert told(rig, *news) == [("send", "above_threshold"), ("over_budget", "budget_spent")]


def test_a_rider_that_was_sent_before_is_left_out(rig: Rig) -> None:
    told(rig, Row("b", budget=9))
    assert told(rig, replace(LEAD, budget=9), *RIDERS)[1:] == [("duplicate", "already_sent"), ("digest", "in_digest")]
    assert rig.outbox(0)[-1].item_ids == ("a", "c")


def test_with_no_rider_left_a_lead_is_told_alone(rig: Rig) -> None:
    told(rig, Row("b", budget=9), Row("c", budget=9))
    told(rig, replace(LEAD, budget=9), *RIDERS)
    message = rig.outbox(0)[-1]
    assert (message.item_ids, message.digest_by) == (("a",), "")


@pytest.mark.parametrize(
    ("before", "lead", "rider"),
    [
        (Row("z"), ("over_budget", "budget_spent"), ("over_budget", "budget_spent")),
        (Row("a"), ("duplicate", "already_sent"), ("over_budget", "window_full")),
    ],
)
def test_riders_of_a_lead_that_does_not_go_stay(rig: Rig, before: Row, lead: tuple[str, str], rider: tuple[str, str]) -> None:
    told(rig, replace(before, decision="earlier"))
    assert told(rig, LEAD, *RIDERS) == [lead, rider, rider]
    assert len(rig.outbox(0)) == 1


def test_a_decision_made_again_reports_its_own_digest(rig: Rig) -> None:
    first = told(rig, LEAD, *RIDERS)
    assert told(rig, LEAD, *RIDERS) == first
    assert len(rig.outbox(0)) == 1


def test_a_digest_that_was_not_delivered_gives_everything_back(rig: Rig) -> None:
    told(rig, LEAD, *RIDERS)
    (message,) = rig.outbox(0)
    rig.ledger.refund(["ann"] * 3, np.array([int(grant, 16) for grant in message.grant_ids], np.uint64))
    assert told(rig, *(replace(row, decision="e") for row in (LEAD, *RIDERS)))[0] == ("send", "above_threshold")


def test_digests_of_several_users_and_channels_keep_apart(rig: Rig) -> None:
    rows = {"ann": [LEAD, *RIDERS], "bob": [Row("z", value=0.95), LEAD, RIDERS[0], Row("y", channel=1, value=0.1)]}
    rig.committer.commit([batch(rows)])
    assert [(message.user_id, message.item_ids) for message in rig.outbox(0)] == [
        ("ann", ("a", "b", "c")),
        ("bob", ("z",)),
        ("bob", ("y",)),
    ]


def test_a_rider_without_a_lead_before_it_is_refused() -> None:
    good = batch({"ann": [LEAD, *RIDERS]})
    for broken in (Digests.none(), replace(good.digests, lead=np.array([0, 2], np.int32))):
        with pytest.raises(ValueError, match="needs one lead"):
            replace(good, digests=broken)
