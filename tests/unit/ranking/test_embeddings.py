"""Embeddings say who engages with the same things, and whom an author's items are engaged with by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.ids import author_key
from ranking.blocks import DIMENSIONS
from ranking.embeddings import embed, epoch_of
from ranking.labels import DAY_S
from ranking.offline import AUDIENCE_HALF_LIFE_S, State
from ranking.past import Past

START = pd.Timestamp("2024-01-01T00:00:00Z")
AT = (START + pd.Timedelta(days=22)).timestamp()


def two_circles(people: int, items: int) -> Past:
    """Return a log of two circles of people, each engaging with the items of an author of its own."""
    random = np.random.default_rng(0)
    user, item = random.integers(0, people, 40 * people), random.integers(0, items, 40 * people)
    same = (user + item) % 2 == 0
    frame = pd.DataFrame({"user": user[same], "item": item[same]}).drop_duplicates()
    born = pd.DataFrame({"item_id": [f"i{i}" for i in range(items)], "created_at": START, "author_id": [f"a{i % 2}" for i in range(items)]})
    events = pd.DataFrame(
        {
            "user_id": "u" + frame["user"].astype(str),
            "item_id": "i" + frame["item"].astype(str),
            "kind": "view",
            "at": START + pd.to_timedelta(np.sort(random.integers(1, 20 * 24, len(frame))), unit="h"),
        }
    )
    return Past.of(Dataset.of({"items": born, "events": events}))


def circles_of(past: Past) -> np.ndarray:
    return np.array([int(str(user)[1:]) % 2 if str(user)[0] == "u" else -1 for user in past.user_ids])


@pytest.mark.parametrize("people", [6, 200])
def test_people_who_engage_with_the_same_things_are_alike(people: int) -> None:
    past = two_circles(people, 2 * people)
    vectors, circle = embed(past, AT), circles_of(past)
    alike = vectors @ vectors.T
    mine, others = alike[circle == 0][:, circle == 0], alike[circle == 0][:, circle == 1]
    assert mine.mean() > 10 * abs(others.mean())


def test_dimensions_that_there_are_too_few_people_for_are_zero() -> None:
    vectors = embed(two_circles(6, 12), AT)
    assert vectors.shape[1] == DIMENSIONS
    assert np.abs(vectors[:, :2]).max() > 0
    assert not vectors[:, 6:].any()


def test_nobody_and_one_person_alone_are_embedded_nowhere() -> None:
    past = two_circles(6, 12)
    assert not embed(past, past.at[0]).any()
    assert not embed(past, float(np.nextafter(past.at[0], np.inf))).any()


def test_an_audience_is_the_mean_of_those_who_engage_with_the_author_shrunk_by_one() -> None:
    past = two_circles(6, 12)
    state, monday = State(past), epoch_of(AT)
    found = state.audience_vectors(author_key(["a0", "a1", "stranger"]), AT)
    weight = (
        np.exp2(-(monday - past.at) / AUDIENCE_HALF_LIFE_S) * (past.items.author[past.item] == author_key(["a0"])[0]) * (past.at < monday)
    )
    expected = weight @ state.vectors(AT)[past.user] / (weight.sum() + 1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)
    assert not found[2].any()
    assert not state.audience_vectors(np.zeros(2, np.uint64), AT).any()


def test_an_audience_holds_for_a_week_and_knows_nothing_later() -> None:
    state = State(two_circles(6, 12))
    authors = author_key(["a0"])
    monday = epoch_of(AT - 14 * DAY_S)
    assert np.array_equal(state.audience_vectors(authors, monday), state.audience_vectors(authors, monday + 6 * DAY_S))
    assert not np.array_equal(state.audience_vectors(authors, monday), state.audience_vectors(authors, monday + 7 * DAY_S))
