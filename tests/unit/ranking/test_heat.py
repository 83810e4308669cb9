"""What trends: more engagement than usual, by people enough, as the store's counts tell it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.heat import burst_of, heat_of, significance
from ranking.store import MemoryFeatureStore

NOW, DAY_S = 1_700_000_000.0, 86_400.0


def engaged(store: MemoryFeatureStore, item: str, ages_d: npt.NDArray[np.float64]) -> None:
    """Let somebody else engage with an item at each of these ages, in days."""
    ages = np.sort(ages_d)[::-1]
    store.record_engagements([item] * len(ages), [f"{item} {n}" for n in range(len(ages))], (NOW - ages * DAY_S).tolist())


@pytest.fixture
def store() -> MemoryFeatureStore:
    """An item read by ten a day for two months, the same with forty more today, a new one, a forgotten one and one of two readers."""
    made = MemoryFeatureStore()
    usual = np.arange(0.05, 60, 0.1)
    engaged(made, "evergreen", usual)
    engaged(made, "rediscovered", np.concatenate([usual, np.linspace(0.02, 0.5, 40)]))
    engaged(made, "new", np.linspace(0.02, 0.3, 12))
    engaged(made, "forgotten", np.linspace(3, 6, 60))
    engaged(made, "two readers", np.array([0.1, 0.2]))
    return made


def test_what_is_unusual_trends_and_what_is_read_day_after_day_or_not_any_more_does_not(store: MemoryFeatureStore) -> None:
    items = ["evergreen", "rediscovered", "new", "forgotten", "two readers", "unknown"]
    burst = dict(zip(items, burst_of(store)(items, NOW), strict=True))
    assert min(burst["rediscovered"], burst["new"]) > 4 > burst["two readers"] > 1 > burst["evergreen"]
    assert abs(burst["evergreen"]) < 0.5
    assert burst["forgotten"] < 0 == burst["unknown"]
    heat = dict(zip(items, heat_of(store, "users_1d")(items, NOW), strict=True))
    assert heat["evergreen"] > heat["new"]


def test_a_burst_is_over_when_the_usual_has_caught_up(store: MemoryFeatureStore) -> None:
    days = [float(burst_of(store)(["new"], NOW + day * DAY_S)[0]) for day in range(5)]
    assert all(later < earlier for earlier, later in pairwise(days))
    assert days[-1] < 0
    assert burst_of(store)([], NOW).shape == (0,)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 1e3))
def test_more_lately_is_more_of_a_burst_and_more_usually_is_less(lately: float, usual: float, more: float) -> None:
    def of(lately: float, usual: float) -> float:
        return float(significance(np.array([lately]), np.array([usual]))[0])

    assert of(lately + more, usual) > of(lately, usual)
    assert of(lately, usual + more) < of(lately, usual)
    assert of(usual, usual) == 0
