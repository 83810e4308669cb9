"""The daily refresh: what it writes does not depend on how many users it looks at together."""

from __future__ import annotations

import numpy as np
import pytest

import ranking.refresh
from ranking.offline import State
from ranking.past import Past
from ranking.refresh import refresh, refresh_from
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.worlds import DAYS, START, world

AS_OF = START.timestamp() + DAYS * 86_400.0


def test_a_refresh_of_one_part_of_the_users_at_a_time_writes_the_same_rows_as_one_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, whole, parts = world(), MemoryFeatureStore(), MemoryFeatureStore()
    at_once = refresh_from(State(Past.of(dataset)), AS_OF, whole, with_counts=True)
    monkeypatch.setattr(ranking.refresh, "USERS_PER_WRITE", 7)
    assert refresh(dataset, AS_OF, parts, with_counts=True) == at_once
    assert len(parts.users) == len(dataset.users) > 3 * 7
    for name in ("users", "authors", "topics", "items", "engaged", "refreshed_at"):
        assert getattr(parts, name) == getattr(whole, name), name


def test_a_state_of_a_part_keeps_the_events_of_its_users_and_of_what_they_made() -> None:
    past = Past.of(world())
    part = State(past).part(np.array([0, 1], np.int32), AS_OF).past
    theirs = np.isin(past.user, [0, 1]) | np.isin(past.items.author[past.item], past.user_key[:2])
    assert len(part.at) == theirs.sum() < len(past.at)
    assert set(part.send_user.tolist()) == {0, 1}
