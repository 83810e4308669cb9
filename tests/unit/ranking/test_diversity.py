"""Diversity: what is like the latest sends counts less, by formula, and recovers with its half-life."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.diversity import DiversityRule, Facets, demoted, factors

DAY_S = 86400.0
RULE = DiversityRule(entity=0.5, author=0.2, topic=0.3, half_life_s=2 * DAY_S)


def facets(*rows: tuple[int, int, int, tuple[int, ...]]) -> Facets:
    """Facets of (user, entity, author, topics)."""
    topics = np.array([[*names, 0, 0, 0][:3] for *_, names in rows], np.uint64).reshape(len(rows), 3)
    return Facets(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.uint64),
        np.array([row[2] for row in rows], np.uint64),
        topics,
    )


def kept(rows: Facets, sent: Facets, *days: float) -> list[float]:
    found: list[float] = factors(rows, sent, np.array(days) * DAY_S, RULE).tolist()
    return found


def test_each_dimension_takes_its_weight_at_once() -> None:
    sent = facets((0, 7, 8, (1, 2)))
    rows = facets((0, 7, 0, ()), (0, 1, 8, ()), (0, 1, 9, (1, 2)), (0, 1, 9, (1, 3)), (0, 1, 9, (3,)))
    assert kept(rows, sent, 0.0) == pytest.approx([0.5, 0.8, 0.7, 0.85, 1.0])


def test_dimensions_multiply() -> None:
    assert kept(facets((0, 7, 8, (1,))), facets((0, 7, 8, (1,))), 0.0) == pytest.approx([0.5 * 0.8 * 0.7])


def test_the_loss_halves_every_half_life_and_what_is_dated_ahead_counts_as_now() -> None:
    sent, row = facets((0, 7, 0, ())), facets((0, 7, 0, ()))
    assert [1 - kept(row, sent, days)[0] for days in (-1, 0, 2, 4, 40)] == pytest.approx([0.5, 0.5, 0.25, 0.125, 0.5 / 2**20], abs=1e-6)


def test_of_several_sends_the_latest_counts() -> None:
    sent = facets((0, 7, 0, ()), (0, 7, 0, ()), (0, 7, 0, ()))
    assert kept(facets((0, 7, 0, ())), sent, 10.0, 2.0, 6.0) == pytest.approx([0.75])


def test_what_others_were_sent_and_what_has_no_author_changes_nothing() -> None:
    sent = facets((1, 7, 0, ()), (0, 5, 0, ()))
    assert kept(facets((0, 7, 0, ()), (1, 5, 0, ())), sent, 0.0, 0.0) == [1.0, 1.0]


def test_nothing_sent_and_weights_of_0_change_nothing() -> None:
    row = facets((0, 7, 8, (1,)))
    assert kept(row, facets()) == [1.0]
    off = DiversityRule(entity=0, author=0, topic=0)
    assert factors(row, row, np.zeros(1), off).tolist() == [1.0]


def test_a_value_that_does_harm_is_not_raised() -> None:
    value, share = np.array([0.4, -0.4], np.float32), np.array([0.5, 0.5], np.float32)
    assert demoted(value, share) == pytest.approx([0.2, -0.4])


ROW = st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 3), st.lists(st.integers(1, 4), max_size=3, unique=True).map(tuple))


@given(st.lists(ROW, max_size=12), st.lists(st.tuples(ROW, st.floats(0, 20)), max_size=12))
def test_the_vectors_say_what_a_scalar_twin_says(
    rows: list[tuple[int, int, int, tuple[int, ...]]], sent: list[tuple[tuple[int, int, int, tuple[int, ...]], float]]
) -> None:
    def twin(row: tuple[int, int, int, tuple[int, ...]]) -> float:
        user, entity, author, topics = row
        mine = [(other, 2.0 ** (-days / 2)) for other, days in sent if other[0] == user]
        about = max([fresh for other, fresh in mine if other[1] == entity], default=0.0)
        by = max([fresh for other, fresh in mine if author and other[2] == author], default=0.0)
        on = [max([fresh for other, fresh in mine if topic in other[3]], default=0.0) for topic in topics]
        return (1 - 0.5 * about) * (1 - 0.2 * by) * (1 - 0.3 * sum(on) / max(len(on), 1))

    ages: npt.NDArray[np.float64] = np.array([days for _, days in sent], np.float64) * DAY_S
    found = factors(facets(*rows), facets(*(row for row, _ in sent)), ages, RULE)
    assert found == pytest.approx([twin(row) for row in rows], abs=1e-6)
    assert ((found > 0) & (found <= 1)).all()
