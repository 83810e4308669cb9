"""Who spends the processor time while a benchmark runs: a system's processes by the part they play, read from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

PARTS = (
    ("ServeReplica:tidings:", "serve"),
    ("ray::decide_shard", "shard tasks"),
    ("ray::ProxyActor", "serve proxy"),
    ("ray::HAProxy", "serve proxy"),
    ("ray::ServeController", "serve controller"),
    ("haproxy", "haproxy"),
    ("valkey-server", "store"),
    ("raylet/raylet", "ray"),
    ("gcs_server", "ray"),
    ("ray/dashboard", "ray"),
    ("ray::IDLE", "shard tasks"),
    ("ray::", "ray"),
    ("uvicorn", "peer"),
    ("multiprocessing.spawn", "peer"),
    ("multiprocessing.forkserver", "load generator"),
)
"""What a command line contains, and the part it belongs to; the first that fits counts."""


@dataclass
class CpuUse:
    """Cores busy by part, filled in when the measured time is over."""

    cores: dict[str, float] = field(default_factory=dict)


@contextmanager
def cpu_use(root: int) -> Iterator[CpuUse]:
    """Measure the processes below `root` (a process id) while the body runs; empty where there is no /proc."""
    use, before, began = CpuUse(), _spent_s(root), perf_counter()
    yield use
    after, elapsed_s = _spent_s(root), perf_counter() - began
    cores: defaultdict[str, float] = defaultdict(float)
    for process, (part, spent_s) in after.items():
        cores[part] += (spent_s - before.get(process, (part, 0.0))[1]) / elapsed_s
    use.cores = {part: round(busy, 2) for part, busy in sorted(cores.items(), key=lambda each: -each[1]) if busy >= 0.01}


def _spent_s(root: int) -> dict[int, tuple[str, float]]:
    parents, spent = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        process = int(folder.name)
        parents[process] = int(after_name[1])
        spent[process] = (_part(command), (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK"))
    return {process: what for process, what in spent.items() if _is_below(process, root, parents)}


def _is_below(process: int, root: int, parents: dict[int, int]) -> bool:
    while process and process != root:
        process = parents.get(process, 0)
    return process == root


def _part(command: str) -> str:
    for mark, part in PARTS:
        if mark in command:
            return command.partition(mark)[2].partition(":")[0].strip().lower() if part == "serve" else part
    return "bench"
