"""TCP ports of this machine."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

TIMEOUT_S = 2.0
LOOPBACK = "127.0.0.1"


def in_use(port: int) -> bool:
    """Return whether something listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(TIMEOUT_S)
        return probe.connect_ex((LOOPBACK, port)) == 0


def claimed(port: int) -> int | None:
    """Return a descriptor that keeps a port for this user's systems while any process holds it, None where another has claimed it.

    A system listens only some seconds after it chose its ports; two that start together would choose the same ones.
    """
    path = Path(tempfile.gettempdir()) / f"tidings-{os.getuid()}-port-{port}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])
