"""Ticks the scheduler of the running system for each line it reads and prints the reports: a program, for Ray reads settings at import."""

from __future__ import annotations

import json
import sys

from tidings.home import running
from tidings.ray_demo import scheduler_tick


def main() -> None:
    """Tick until there are no more lines."""
    state = running()
    assert state is not None
    with scheduler_tick(state) as tick:
        while sys.stdin.readline():
            report = tick()
            told = None if report is None else {name: getattr(report, name) for name in ("users", "candidates", "sends", "slot")}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
