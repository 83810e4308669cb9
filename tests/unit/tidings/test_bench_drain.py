"""What is made of looks at a drain."""

from __future__ import annotations

from tidings.bench_drain import Drained, Look, forget_peak, peak_mb


def a_look(at_s: float, left: int) -> Look:
    return Look(at_s, left, {"courier": 2 * at_s, "store": at_s})


def test_starting_up_counts_in_neither_pace_nor_processor_time() -> None:
    drained = Drained(1000, a_look(0.0, 1000), [a_look(4.0, 1000), a_look(5.0, 900), a_look(6.0, 400), a_look(7.0, 0)], {0.5: 80.0})
    assert drained.figures() == {
        "start_s": 5.0,
        "counted_messages": 900,
        "messages_per_s": 450,
        "courier_cpu_us_per_message": 4444.4,
        "store_cpu_us_per_message": 2222.2,
        "courier_peak_mb_at_50_percent": 80.0,
    }


def test_a_drain_that_was_over_at_the_first_look_counts_from_its_start() -> None:
    figures = Drained(100, a_look(0.0, 100), [a_look(2.0, 0)]).figures()
    assert (figures["counted_messages"], figures["messages_per_s"]) == (100, 50)


def test_the_peak_sees_memory_that_was_given_back() -> None:
    forget_peak()
    before = peak_mb()
    held = bytearray(64_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    assert peak_mb() >= before + 32
