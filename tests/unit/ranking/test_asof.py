"""The point-in-time engine against a plain loop."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from ranking.asof import EventLog, ragged

EVENTS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30), st.floats(0, 5)), max_size=40)
QUERIES = st.lists(st.tuples(st.integers(1, 5), st.integers(-1, 32)), min_size=1, max_size=20)
DAY_S = 86400.0


@given(EVENTS, QUERIES, st.sampled_from([3600.0, DAY_S, 7 * DAY_S]))
def test_counts_sums_and_last_times_are_those_of_a_loop_over_strictly_earlier_events(
    events: list[tuple[int, int, float]], queries: list[tuple[int, int]], half_life_s: float
) -> None:
    keys, at, weight = (np.array([event[i] for event in events], dtype) for i, dtype in enumerate((np.uint64, float, float)))
    log = EventLog(keys, at * DAY_S, weight)
    wanted, moments = np.array([q[0] for q in queries], np.uint64), np.array([q[1] for q in queries], float) * DAY_S
    found = log.positions(wanted, moments)
    for place, (key, moment) in enumerate(zip(wanted, moments, strict=True)):
        mine = (keys == key) & (at * DAY_S < moment)
        assert found.count[place] == mine.sum()
        decayed = (weight[mine] * 0.5 ** ((moment - at[mine] * DAY_S) / half_life_s)).sum()
        assert np.isclose(log.decayed(found, half_life_s)[place], decayed, rtol=1e-9)
        first, last = (at[mine].min() * DAY_S, at[mine].max() * DAY_S) if mine.any() else (np.nan, np.nan)
        assert np.array_equal([log.first_at(found)[place], log.last_at(found)[place]], [first, last], equal_nan=True)


@given(EVENTS, QUERIES)
def test_positions_by_code_are_those_by_key(events: list[tuple[int, int, float]], queries: list[tuple[int, int]]) -> None:
    log = EventLog(np.array([event[0] for event in events], np.uint64), np.array([event[1] for event in events], float))
    wanted, moment = np.array([query[0] for query in queries], np.uint64), float(queries[0][1])
    by_key, by_code = log.positions(wanted, moment), log.positions_of(log.codes(wanted), moment)
    assert by_code.count.tolist() == by_key.count.tolist()
    assert np.array_equal(log.last_at(by_code), log.last_at(by_key), equal_nan=True)
    assert np.array_equal(log.decayed(by_code, 2.0), log.decayed(by_key, 2.0))


def test_an_hour_of_half_life_over_twenty_years_neither_overflows_nor_loses_the_present() -> None:
    at = np.arange(0.0, 20 * 365 * DAY_S, DAY_S)
    log = EventLog(np.ones(len(at), np.uint64), at)
    decayed = log.decayed(log.positions(np.ones(3, np.uint64), np.array([1.0, at[-1] + 1, at[-1] + 3600])), 3600.0)
    assert np.allclose(decayed, [1.0, 1.0, 0.5], rtol=1e-3)


def test_a_log_without_events_answers_nothing() -> None:
    log = EventLog(np.empty(0, np.uint64), np.empty(0))
    found = log.positions(np.ones(2, np.uint64), 5.0)
    assert found.count.tolist() == [0, 0]
    assert log.decayed(found, 60.0).tolist() == [0.0, 0.0]
    assert np.isnan(log.last_at(found)).all()
    assert np.isnan(log.first_at(found)).all()


def test_ragged_lists_every_element_of_every_range_with_its_owner() -> None:
    rows, owner = ragged(np.array([5, 2, 7]), np.array([7, 2, 10]))
    assert rows.tolist() == [5, 6, 7, 8, 9]
    assert owner.tolist() == [0, 0, 2, 2, 2]
