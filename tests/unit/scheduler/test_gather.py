"""Gathering: every row a source proposes appears once per channel, credited to the first source, within each user's limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.items import ItemTable, MemoryItemStore
from scheduler.gather import gather
from scheduler.sources import Proposals, UserChunk

NOW = 1_700_000_000.0
ITEMS = 12

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Fixed:
    """A source that proposes given (user, item) pairs; users ascend, each user's items are in order of preference."""

    name: str
    pairs: Pairs

    def propose(self, users: UserChunk, table: ItemTable, now: float) -> Proposals:
        pairs = sorted(self.pairs, key=lambda pair: pair[0])
        return Proposals(np.array([user for user, _ in pairs], np.int32), np.array([item for _, item in pairs], np.int32))


@pytest.fixture(scope="module")
def table() -> ItemTable:
    store = MemoryItemStore()
    store.put([{"item_id": f"i{n}", "created_at": NOW} for n in range(ITEMS)])
    made = ItemTable(store)
    made.sync(NOW)
    return made


def gathered(
    table: ItemTable, sources: list[Fixed], users: int = 4, channels: tuple[int, ...] = (0,), limit: int = 500
) -> list[tuple[int, str, int, str]]:
    """Return (user, item id, channel, source) of each candidate."""
    rows = gather(UserChunk([f"u{n}" for n in range(users)]), sources, table, channels, NOW, limit=limit)
    assert len(set(rows.items)) == len(rows.items)
    assert (np.diff(rows.user) >= 0).all()
    names = [rows.sources[code] for code in rows.source.tolist()]
    return list(zip(rows.user.tolist(), (rows.items[code] for code in rows.item), rows.channel.tolist(), names, strict=True))


def test_a_row_that_several_sources_propose_is_credited_to_the_first(table: ItemTable) -> None:
    rows = gathered(table, [Fixed("held", [(0, 3)]), Fixed("new", [(0, 3), (0, 4), (1, 3)])])
    assert rows == [(0, "i3", 0, "held"), (0, "i4", 0, "new"), (1, "i3", 0, "new")]


def test_each_row_is_spread_over_every_channel(table: ItemTable) -> None:
    rows = gathered(table, [Fixed("new", [(0, 1), (2, 1)])], channels=(0, 3))
    assert [(user, channel) for user, _, channel, _ in rows] == [(0, 0), (0, 3), (2, 0), (2, 3)]


def test_the_limit_keeps_the_first_sources_rows_and_each_sources_own_order(table: ItemTable) -> None:
    rows = gathered(table, [Fixed("a", [(0, 7)]), Fixed("b", [(0, 5), (0, 6), (0, 2)])], limit=3)
    assert [item for _, item, _, _ in rows] == ["i7", "i5", "i6"]


@pytest.mark.parametrize("sources", [[], [Fixed("a", [])], [Fixed("a", []), Fixed("b", [])]])
def test_nothing_proposed_is_no_candidates(table: ItemTable, sources: list[Fixed]) -> None:
    assert gathered(table, sources) == []


def test_no_users_are_no_candidates(table: ItemTable) -> None:
    assert gathered(table, [Fixed("a", [])], users=0) == []


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1)), max_size=30, unique=True)


@given(st.lists(pairs, min_size=1, max_size=3), st.sampled_from([(0,), (0, 2)]), st.integers(2, 9))
def test_any_proposals_give_what_a_loop_over_them_gives(
    table: ItemTable, proposed: list[Pairs], channels: tuple[int, ...], limit: int
) -> None:
    sources = [Fixed(f"s{n}", each) for n, each in enumerate(proposed)]
    expected = []
    for user in range(4):
        mine: dict[int, str] = {}
        for source in sources:
            for each, item in source.pairs:
                if each == user:
                    mine.setdefault(item, source.name)
        kept = list(mine.items())[: max(limit // len(channels), 1)]
        expected += [(user, f"i{item}", channel, name) for item, name in kept for channel in channels]
    assert gathered(table, sources, channels=channels, limit=limit) == expected
