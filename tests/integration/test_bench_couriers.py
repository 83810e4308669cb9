"""Several couriers of the bench drain one outbox between them, and every message is accepted once."""

from __future__ import annotations

from tidings.bench_courier import Load, run


def test_two_couriers_deliver_everything_between_them() -> None:
    figures = run(Load("in_app", messages=400, users=50, couriers=2))
    assert (figures["couriers"], figures["messages"]) == (2, 400)
    assert 0 < figures["counted_messages"] <= 400
