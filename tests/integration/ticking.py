"""Ticks the scheduler of the running system once and prints its report: a program, for Ray reads its settings at import."""

from __future__ import annotations

import json
import sys

from tidings.home import running
from tidings.ray_demo import scheduler_tick


def main() -> None:
    """Tick once."""
    state = running()
    assert state is not None
    with scheduler_tick(state) as tick:
        report = tick()
    told = None if report is None else {"users": report.users, "candidates": report.candidates, "sends": report.sends, "slot": report.slot}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
