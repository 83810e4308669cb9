"""All followers of a topic are told of one item by the bench that watches the memory of it."""

from __future__ import annotations

from tidings.bench_audience import run


def test_everybody_is_told_once_and_the_memory_is_told_of_at_every_share() -> None:
    figures = run(6_000)
    assert figures["messages"] == figures["users"] == 6_000
    peaks = [figures[f"peak_mb_at_{percent}_percent"] for percent in (10, 50, 100)]
    assert 0 < figures["began_mb"] <= peaks[0] <= peaks[1] <= peaks[2] < 1.2 * figures["began_mb"]
