"""Watches a courier drain its outbox: pace and processor time from the first outcome on, and the most memory it ever took."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from delivery.courier import Courier
from delivery.outbox import Outbox

LOOK_EVERY_S = 0.1
SHARES = (0.1, 0.5, 1.0)
"""Of the backlog: how much is settled when the memory is read."""


@dataclass(frozen=True)
class Look:
    """What is seen at one moment: how many messages are `left`, and the processor time of each process until then, in seconds."""

    at_s: float
    left: int
    spent_s: Mapping[str, float]


@dataclass
class Drained:
    """A drain as it was seen. `peaks_mb`: the courier's most memory until each of SHARES was settled, from the drain's start on."""

    messages: int
    began: Look
    looks: list[Look] = field(default_factory=list)
    peaks_mb: dict[float, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float | int]:
        """Return the pace from the first look that saw outcomes to the last message; what was settled by that look does not count.

        `start_s`: from the courier's start until that look: leases, connections, code that is loaded for the first message. Where that
        look saw everything settled, the start is counted in. `…_cpu_us_per_message`: processor time by process, in the same span.
        """
        seen = next(look for look in self.looks if look.left < self.messages)
        first, last = seen if seen.left else self.began, self.looks[-1]
        counted = first.left - last.left
        pace: dict[str, float | int] = {
            "start_s": round(seen.at_s - self.began.at_s, 2),
            "counted_messages": counted,
            "messages_per_s": round(counted / (last.at_s - first.at_s)),
        }
        for process, spent_s in last.spent_s.items():
            pace[f"{process}_cpu_us_per_message"] = round((spent_s - first.spent_s[process]) / counted * 1e6, 1)
        return pace | {f"courier_peak_mb_at_{round(100 * share)}_percent": mb for share, mb in self.peaks_mb.items()}


async def drain(courier: Courier, outbox: Outbox, shards: Sequence[int], processes: Mapping[str, int]) -> Drained:
    """Run a courier in this process until nothing is left. `processes`: the ids of the others whose time is taken, by name."""

    async def look() -> Look:
        left = sum(each.total for each in await asyncio.to_thread(outbox.backlog, shards))
        return Look(time.perf_counter(), left, {"courier": time.process_time()} | {name: spent_s(pid) for name, pid in processes.items()})

    forget_peak()
    began = await look()
    seen = Drained(began.left, began)
    running = asyncio.create_task(courier.run())
    while not seen.looks or (seen.looks[-1].left and not running.done()):
        await asyncio.sleep(LOOK_EVERY_S)
        seen.looks.append(await look())
        for share in SHARES:
            if share not in seen.peaks_mb and seen.looks[-1].left <= (1 - share) * seen.messages:
                seen.peaks_mb[share] = peak_mb()
    courier.stop()
    await running
    return seen


def peak_mb() -> float:
    """Return the most memory this process has held since `forget_peak`, in MB; since its start where there is no /proc."""
    try:
        kilobytes = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]
    except (OSError, StopIteration):
        kilobytes = str(getrusage(RUSAGE_SELF).ru_maxrss)
    return round(int(kilobytes) * 1024 / 1e6, 1)


def forget_peak() -> None:
    """Let the peak begin with what this process holds now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def spent_s(pid: int) -> float:
    """Return the processor time of a process, 0 where there is no /proc."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
