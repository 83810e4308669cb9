"""Words that are used together are about the same thing."""

from __future__ import annotations

import numpy as np
import pytest

from lake.terms import BUCKETS, MAX_TERMS, terms_of
from ranking.texts import LEAST_TEXTS, reader_vectors, text_vectors, word_vectors

GARDEN, SEA = ("rose", "spade", "seed", "bloom", "hedge", "soil"), ("sail", "wave", "tide", "harbour", "anchor", "crew")


def texts(seed: int = 0, count: int = 400) -> tuple[list[str], list[bool]]:
    random = np.random.default_rng(seed)
    is_garden = (random.random(count) < 0.5).tolist()
    return [" ".join(random.choice(GARDEN if garden else SEA, 3, replace=False)) + " news" for garden in is_garden], is_garden


def test_words_do_not_depend_on_case_order_or_repetition_but_for_their_places() -> None:
    one, other, none = terms_of(["Straße am MEER, meer!", "meer am STRASSE", None])
    assert set(one.tolist()) == set(other.tolist())
    assert (one != 0).sum() == 3
    assert not none.any()
    assert (terms_of([" ".join(f"word{i}" for i in range(200))]) != 0).sum() == MAX_TERMS


def test_texts_about_the_same_are_nearer_though_they_share_no_word() -> None:
    said, _ = texts()
    words = word_vectors(terms_of(said))
    assert words is not None
    assert words.shape[0] == BUCKETS
    roses, soil, sail = text_vectors(terms_of(["rose spade", "soil bloom hedge", "sail tide"]), words)
    assert roses @ soil > 0.5
    assert roses @ sail < 0
    assert abs(np.linalg.norm(roses) - 1) < 1e-6


def test_words_nobody_used_before_say_nothing() -> None:
    said, _ = texts()
    assert not text_vectors(terms_of(["zebra quagga", ""]), word_vectors(terms_of(said))).any()
    assert not text_vectors(terms_of(["rose"]), None).any()


def test_too_few_texts_teach_nothing() -> None:
    said, _ = texts(count=LEAST_TEXTS - 1)
    assert word_vectors(terms_of([*said, "", "  "])) is None


def test_the_same_texts_teach_the_same_and_the_newest_count() -> None:
    said, _ = texts()
    first, again = word_vectors(terms_of(said)), word_vectors(terms_of(said))
    assert first is not None
    assert again is not None
    assert np.array_equal(first, again)


def test_a_reader_is_what_was_read_and_little_is_less_sure() -> None:
    text = np.eye(16, dtype=np.float32)[[0, 0, 0, 1]]
    readers = reader_vectors(np.array([0, 0, 0, 1]), 3, text, np.array([1.0, 1.0, 0.0, 1.0]))
    assert readers[:, :2].tolist() == pytest.approx(np.array([[2 / 3, 0], [0, 1 / 2], [0, 0]]))
