"""When to try again."""

from __future__ import annotations

import pytest

from delivery.backoff import Backoff

BACKOFF = Backoff(max_attempts=12, first_s=10, longest_s=3600)


@pytest.mark.parametrize("attempts", range(1, 100, 7))
def test_waits_double_up_to_the_longest_and_are_spread(attempts: int) -> None:
    longest = min(3600.0, 10.0 * 2 ** (attempts - 1))
    waits = [BACKOFF.wait_s(attempts, None) for _ in range(50)]
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(set(waits)) > 40


def test_the_provider_may_ask_for_longer_but_not_for_less() -> None:
    assert BACKOFF.wait_s(1, 5000) == 5000
    assert BACKOFF.wait_s(9, 1) >= 1000
