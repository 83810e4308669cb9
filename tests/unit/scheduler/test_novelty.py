"""What was sent lately demotes what is like it, in the same way in both lanes, until it is new again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budgets.ledger import Account, Grant, MemoryLedger
from lake.ids import hash64
from lake.items import Items, ItemTable, MemoryItemStore
from ranking.diversity import DiversityRule
from scheduler.novelty import FRESH_S, Novelty
from scheduler.pipeline import PipelineConfig
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, USERS, World, furnished, urgent

DAY_S = 86400.0
RULE = DiversityRule(entity=0.5, author=0.2, topic=0.1, half_life_s=DAY_S)


@pytest.fixture
def world() -> World:
    return furnished(World.in_memory())


def demoted(sent: str, age_s: float, rule: DiversityRule = RULE) -> list[float]:
    """The values of four candidates worth 1 to a user who was sent `sent`, and to one who was sent nothing."""
    rows = [
        {"item_id": "old", "created_at": 0.0, "author_id": "ann", "topics": ["a"]},
        {"item_id": "same author", "created_at": 0.0, "author_id": "ann"},
        {"item_id": "same topic", "created_at": 0.0, "author_id": "bob", "topics": ["a", "b"]},
        {"item_id": "unlike", "created_at": 0.0, "author_id": "bob", "topics": ["c"]},
    ]
    store, items = MemoryItemStore(), Items.from_rows(rows)
    store.put(rows)
    table, ledger = ItemTable(store), MemoryLedger()
    table.sync(1.0)
    ledger.accounts["u"] = Account([Grant(0.0, 0, 0, 1, int(hash64([sent])[0]), 1)])
    user, item = np.repeat(np.arange(2, dtype=np.int32), 4), np.tile(np.arange(4, dtype=np.int32), 2)
    value = np.ones(8, np.float32)
    found = Novelty(rule).demote(value, user, items, item, ledger.read(["u", "v"]), table, age_s)
    assert found[4:].tolist() == [1, 1, 1, 1]
    assert value.tolist() == [1] * 8
    own: list[float] = found[:4].tolist()
    return own


def test_entity_author_and_topics_of_a_grant_demote_its_user_s_candidates() -> None:
    assert demoted("old", 0.0) == pytest.approx([0.5 * 0.8 * 0.9, 0.8, 0.95, 1.0])
    assert demoted("old", DAY_S) == pytest.approx([0.75 * 0.9 * 0.95, 0.9, 0.975, 1.0])


def test_a_grant_of_an_item_that_left_the_table_counts_for_its_entity_alone() -> None:
    assert demoted("gone", 0.0) == [1, 1, 1, 1]


def test_an_item_that_came_just_now_counts_for_its_author_a_moment_later() -> None:
    store, ledger = MemoryItemStore(), MemoryLedger()
    table, novelty = ItemTable(store), Novelty(RULE)
    candidates = Items.from_rows([{"item_id": "by ann", "created_at": 0.0, "author_id": "ann"}])

    def worth(now: float) -> float:
        user, item = np.zeros(1, np.int32), np.zeros(1, np.int32)
        return float(novelty.demote(np.ones(1, np.float32), user, candidates, item, ledger.read(["u"]), table, now)[0])

    ledger.accounts["u"] = Account([Grant(1.0, 0, 0, 1, int(hash64(["new"])[0]), 1)])
    table.sync(1.0)
    assert worth(1.0) == 1
    store.put([{"item_id": "new", "created_at": 1.0, "author_id": "ann"}])
    table.sync(1.0)
    assert worth(1.0 + FRESH_S / 2) == 1
    assert worth(1.0 + FRESH_S) == pytest.approx(0.8, abs=1e-3)


def test_weights_of_0_turn_it_off() -> None:
    assert demoted("old", 0.0, DiversityRule(entity=0, author=0, topic=0)) == [1, 1, 1, 1]


def test_the_logged_value_of_an_urgent_item_by_the_same_author_is_demoted_and_recovers(world: World) -> None:
    world.config = PipelineConfig(weekly={"in_app": 9}, diversity=RULE)
    world.tick(MONDAY_NOON)
    scores = []
    for place, after_s in enumerate((0.0, DAY_S)):
        at = MONDAY_NOON + after_s
        world.items.put([{"item_id": f"new{place}", "created_at": at, "author_id": "eve", "half_life_s": 60.0}])
        [result] = world.urgent().decide([urgent(f"new{place}", USERS[:1], decision_id=f"d{place}")], at + 1)
        scores.append(result.score[0])
    assert scores[0] == pytest.approx(0.5 * 0.8, abs=1e-4)


def test_a_second_best_item_by_someone_else_overtakes(world: World) -> None:
    world.config = replace(world.config, weekly={"in_app": 3}, diversity=RULE)
    world.ranker.values = {"x": 0.9, "y": 0.1, "again": 0.5, "other": 0.45}
    world.thresholds.write({"in_app": 0.42})
    world.tick(MONDAY_NOON)
    for name, author in (("again", "eve"), ("other", "fay")):
        world.items.put([{"item_id": name, "created_at": MONDAY_NOON + 60, "author_id": author, "half_life_s": 60.0}])
    results = world.urgent().decide(
        [urgent("again", ["ann"], decision_id="d1"), urgent("other", ["ann"], decision_id="d2")], MONDAY_NOON + 120
    )
    assert [result.disposition for result in results] == [["below_threshold"], ["send"]]
