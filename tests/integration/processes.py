"""The processes of a system that a test started, found by ancestry and never by name alone."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def living() -> dict[int, int]:
    """Return the parent of every living process; zombies do not count."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and fields[0] != "Z":
            found[int(entry.name)] = int(fields[1])
    return found


def descendants(pid: int) -> set[int]:
    """Return a process and everything below it."""
    parents = living()
    family, before = {pid}, 0
    while len(family) > before:
        before = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return family & parents.keys()


def of_home(home: Path) -> set[int]:
    """Return the processes that were started with TIDINGS_HOME at `home`; Ray's workers overwrite what they were started with."""
    wanted = f"TIDINGS_HOME={home}".encode()
    return {pid for pid in living() if pid != os.getpid() and wanted in _read(pid, "environ").split(b"\0")}


def title(pid: int) -> str:
    """Return a process's command line, or what it calls itself; "" where it is gone."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _stat(pid: int) -> list[str]:
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
