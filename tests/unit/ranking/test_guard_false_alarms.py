"""Where nothing is wrong the guard is still, however few people a block is of; where something is, it is found."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.features import FEATURES, USER_FEATURES
from ranking.guard import Guard
from ranking.reference import Reference
from ranking.stability import surprise
from tests.unit.ranking.traffic import DAY_S, EACH, JOBS, RULE, USERS, World

LACKING = (0.5, 0.8, 0.9, 0.97)
"""What part of the people lack a feature, one after the other."""
WARM_DAYS, DAYS, WORLDS = 3, 12, 4


def rows_of(seed: int, number: int, order: np.random.Generator | None = None) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return a day's rows of people of whom many lack something, who come in another order each day."""
    rows = World(seed).day(number).reshape(USERS, EACH, -1)
    lacks = np.random.default_rng((seed, 7)).random((USERS, len(USER_FEATURES))) < np.resize(LACKING, len(USER_FEATURES))
    rows[:, :, : len(USER_FEATURES)][np.broadcast_to(lacks[:, None], (USERS, EACH, len(USER_FEATURES)))] = np.nan
    turn = np.arange(USERS) if order is None else order.permutation(USERS)
    return np.ascontiguousarray(rows[turn].reshape(USERS * EACH, -1))


def test_on_rows_of_the_same_people_it_trips_on_fewer_than_one_block_in_a_hundred_and_finds_what_is_lost() -> None:
    blocks, trips = 0, []
    for seed in range(WORLDS):
        random = np.random.default_rng(seed)
        known = np.concatenate([rows_of(seed, day) for day in range(4)])
        guard = Guard(Reference.of(known, random.random((len(known), 2)).astype(np.float32)), RULE)

        def see(rows: np.ndarray[tuple[int, int], np.dtype[np.float32]], at: float, guard: Guard = guard) -> None:
            scores = np.random.default_rng(int(at)).random((len(rows), 2)).astype(np.float32)
            guard.see(rows, scores, USERS // JOBS, len(rows), at)

        for day in range(10, 10 + DAYS):
            rows = rows_of(seed, day, random)
            for job, part in enumerate(np.split(rows, JOBS)):
                see(part, day * DAY_S + job * RULE.cell_s)
                if day >= 10 + WARM_DAYS:
                    blocks += 1
                    trips += [str(finding) for finding in guard.findings]
        rows[:, 0] = np.nan  # half of the people lack it anyway
        for job, part in enumerate(np.split(rows, JOBS)[:2]):
            see(part, (10 + DAYS) * DAY_S + job * RULE.cell_s)
        assert FEATURES[0] in {finding.column for finding in guard.findings}
    assert blocks > 200
    assert len(trips) < blocks / 100, trips


@pytest.mark.parametrize(("was", "found", "seen", "is_sure"), [(0.97, 1.0, 30, False), (0.5, 1.0, 30, True), (0.0, 0.25, 8, False)])
def test_a_share_of_few_people_says_little(was: float, found: float, seen: int, is_sure: bool) -> None:
    assert (surprise(np.array(was), np.array(found), np.array(float(seen))) > RULE.chance) == is_sure


def test_chance_exceeds_a_surprise_no_more_often_than_it_says() -> None:
    shares = np.random.default_rng(0).binomial(40, 0.3, 200_000) / 40
    found = surprise(np.full(200_000, 0.3), shares, np.full(200_000, 40.0))
    for bound in (1.0, 3.0, 6.0):
        assert (found > bound).mean() <= np.exp(-bound)
    assert surprise(np.array(0.5), np.array(0.4), np.array(1e9)) == 0
