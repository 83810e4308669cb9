"""The drill of `tidings bench ledger` at its full size."""

from __future__ import annotations

import pytest

from tidings.bench_ledger import run


@pytest.mark.timeout(900)
def test_sixty_four_processes_making_a_hundred_thousand_decisions_overspend_nobody() -> None:
    figures = run(users=4000, rounds=2)
    assert figures["users_per_s"] > figures["peer_users_per_s"]
    assert (figures["processes"], figures["overspent"]) == (64, 0)
    assert figures["decisions"] >= 100_000
    assert [figures[name] for name in ("granted_not_enqueued", "enqueued_not_granted", "enqueued_twice")] == [0, 0, 0]
