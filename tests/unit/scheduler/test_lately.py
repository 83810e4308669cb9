"""What is read now and then."""

from __future__ import annotations

from itertools import count

import pytest

from scheduler.lately import Lately


def test_an_answer_is_kept_while_it_is_fresh_and_read_anew_where_the_clock_was_set_back() -> None:
    numbers = count()
    lately = Lately(lambda: next(numbers), 60.0)
    assert [lately.at(now) for now in (100.0, 159.9, 160.0, 219.9, 150.0, 150.0)] == [0, 0, 1, 1, 2, 2]


def test_what_could_not_be_read_is_asked_for_again() -> None:
    answers = iter([ConnectionError(), None])

    def read() -> int:
        if (error := next(answers)) is not None:
            raise error
        return 7

    lately = Lately(read, 60.0)
    with pytest.raises(ConnectionError):
        lately.at(0.0)
    assert lately.at(0.0) == 7
