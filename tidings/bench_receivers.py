"""Receivers that a delivery benchmark sends to, each in a process of its own: as little work as the protocol allows."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

START_TIMEOUT_S = 60.0
_OK = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"
_END_OF_HEAD, _END_OF_MAIL = b"\r\n\r\n", b"\r\n.\r\n"


class HttpReceiver(asyncio.Protocol):
    """Answers 204 to every request with a body of a told length, and keeps the connection."""

    def __init__(self) -> None:
        self._seen = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._seen += data
        while (end := self._seen.find(_END_OF_HEAD)) >= 0:
            head = self._seen[:end].lower()
            _, found, after = head.partition(b"content-length:")
            whole = end + len(_END_OF_HEAD) + (int(after.split(b"\r\n", 1)[0]) if found else 0)
            if len(self._seen) < whole:
                return
            self._seen = self._seen[whole:]
            assert self._transport is not None
            self._transport.write(_OK)


class SmtpReceiver(asyncio.Protocol):
    """Takes every mail (RFC 5321, no extensions) and keeps the connection until QUIT."""

    def __init__(self) -> None:
        self._seen = b""
        self._in_data = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(b"220 bench\r\n")

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._seen += data
        while (end := self._seen.find(_END_OF_MAIL if self._in_data else b"\r\n")) >= 0:
            said, self._seen = self._seen[:end], self._seen[end + (len(_END_OF_MAIL) if self._in_data else 2) :]
            self._answer(said)

    def _answer(self, said: bytes) -> None:
        assert self._transport is not None
        if self._in_data:
            self._in_data = False
            self._transport.write(b"250 taken\r\n")
        elif said[:4].upper() == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go on\r\n")
        elif said[:4].upper() == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 ok\r\n")


class SilentReceiver(asyncio.Protocol):
    """Takes connections and never says a word."""


@contextmanager
def receiving(protocol: type[asyncio.Protocol]) -> Iterator[tuple[int, int]]:
    """Run a receiver on a free loopback port in a process of its own, and yield the port and the process id.

    Raises RuntimeError where it does not start.
    """
    context = multiprocessing.get_context("spawn")
    told, tells = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(protocol, tells), daemon=True)
    process.start()
    try:
        if not told.poll(START_TIMEOUT_S):
            raise RuntimeError("the receiver of the bench did not start; its error is printed above")
        yield told.recv(), int(process.pid or 0)
    finally:
        process.terminate()
        process.join()


def _serve(protocol: type[asyncio.Protocol], tells: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        tells.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())
