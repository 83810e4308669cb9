"""Packed rows say what was packed."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.blocks import AUTHOR_AFFINITY, DIMENSIONS, TEXT_DIMENSIONS, TOPIC_AFFINITY, USER_STATS, Lists, UserBlock
from ranking.rows import blank_stats, pack_users, unpack_users


def block(users: int, seed: int = 0) -> UserBlock:
    random = np.random.default_rng(seed)

    def lists(width: int) -> Lists:
        sizes = random.integers(0, 5, users)
        start = np.append(0, np.cumsum(sizes)).astype(np.int64)
        keys = random.integers(1, 2**63, start[-1]).astype(np.uint64)
        return Lists(start, keys, random.normal(size=(start[-1], width)).astype(np.float32))

    stats, vector = random.normal(size=(users, len(USER_STATS))), random.normal(size=(users, DIMENSIONS))
    text = random.normal(size=(users, TEXT_DIMENSIONS))
    return UserBlock(
        random.uniform(0, 1e9, users),
        stats.astype(np.float32),
        vector.astype(np.float32),
        text.astype(np.float32),
        lists(len(AUTHOR_AFFINITY)),
        lists(len(TOPIC_AFFINITY)),
    )


def test_users_come_back_as_they_went_in_with_nobody_in_between() -> None:
    users = block(50)
    packed: list[bytes | None] = list(pack_users(users, 7.0))
    packed.insert(3, None)
    found, known = unpack_users(packed)
    kept = np.delete(np.arange(51), 3)
    assert known.tolist() == [i != 3 for i in range(51)]
    assert np.array_equal(found.stats[kept], users.stats)
    assert np.array_equal(found.as_of[kept], users.as_of)
    assert np.array_equal(found.stats[3:4], blank_stats(1), equal_nan=True)
    assert np.array_equal(found.vector[kept], users.vector)
    assert np.array_equal(found.text[kept], users.text)
    for mine, theirs in ((found.authors, users.authors), (found.topics, users.topics)):
        assert np.array_equal(mine.key, theirs.key)
        assert np.array_equal(mine.values, theirs.values)
        assert np.array_equal(np.delete(np.diff(mine.start), 3), np.diff(theirs.start))


@pytest.mark.parametrize("kept", [-8, 40, 0])
def test_a_row_of_another_layout_is_of_nobody_anyone_has_seen(kept: int) -> None:
    users = block(5)
    packed: list[bytes | None] = list(pack_users(users, 7.0))
    assert packed[2] is not None
    packed[2] = packed[2][:kept]
    found, known = unpack_users(packed)
    assert known.tolist() == [True, True, False, True, True]
    assert np.array_equal(found.stats[[0, 1, 3, 4]], users.stats[[0, 1, 3, 4]])
    assert np.array_equal(found.stats[2:3], blank_stats(1), equal_nan=True)


def test_no_users_are_an_empty_block() -> None:
    found, known = unpack_users([])
    assert len(found) == len(known) == 0
    assert found.authors.start.tolist() == [0]
