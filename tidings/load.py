"""A load generator: some connections that each send the next request as soon as their last one is answered.

It costs little, because it runs on the machine it measures: requests are bytes made beforehand, and of an answer only the
status and the length are looked at. Being a closed loop it sends less where the system is slow; read latency and rate together.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

END_OF_HEAD = b"\r\n\r\n"
RECEIVE_BYTES = 1 << 18
ANSWER_TIMEOUT_S = 30.0
KEEP_EVERY = 100
"""One answer in so many is kept whole, to see what was decided."""


def http_request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of a POST of JSON on a connection that is kept."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


@dataclass
class Answers:
    """What came back while it counted. `latency_s`: (n,) of good answers. `statuses`: of all. `kept`: some whole bodies.

    `cpu_s`: processor time the generator itself took.
    """

    latency_s: npt.NDArray[np.float64]
    statuses: Counter[int]
    kept: list[bytes]
    elapsed_s: float
    cpu_s: float

    @property
    def requests_per_s(self) -> float:
        """Good answers per second."""
        return len(self.latency_s) / self.elapsed_s

    @property
    def errors(self) -> int:
        """Answers that were no 2xx, and connections that broke (status 0)."""
        return sum(count for status, count in self.statuses.items() if not 200 <= status < 300)

    def percentiles(self) -> dict[str, float]:
        """Return p50_ms, p90_ms and p99_ms of good answers."""
        shares = np.percentile(self.latency_s, (50, 90, 99)) if len(self.latency_s) else np.full(3, np.nan)
        return dict(zip(("p50_ms", "p90_ms", "p99_ms"), np.round(shares * 1e3, 2).tolist(), strict=True))

    @staticmethod
    def of_all(parts: Sequence[Answers]) -> Answers:
        """Return the answers to several generators that ran at once."""
        return Answers(
            np.concatenate([part.latency_s for part in parts]),
            sum((part.statuses for part in parts), Counter()),
            [body for part in parts for body in part.kept],
            max(part.elapsed_s for part in parts),
            sum(part.cpu_s for part in parts),
        )


@dataclass
class Connection:
    """One connection: the answer it is reading, and when its request was sent."""

    address: tuple[str, int]
    sock: socket.socket = field(init=False)
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    body_start: int = 0
    end: int = 0

    def open(self) -> None:
        """Connect anew."""
        self.sock = socket.create_connection(self.address, timeout=ANSWER_TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        """Send a request; the answer before it has been read."""
        self.received.clear()
        self.body_start = self.end = 0
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def read(self) -> bool:
        """Read what is there and return whether the answer is complete; raises ConnectionError where the other side hung up."""
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("hung up")
        self.received += data
        if not self.end:
            head_end = self.received.find(END_OF_HEAD)
            if head_end < 0:
                return False
            self.body_start = head_end + len(END_OF_HEAD)
            self.end = self.body_start + content_length(bytes(self.received[:head_end]))
        return len(self.received) >= self.end

    @property
    def status(self) -> int:
        """The status of the complete answer."""
        return int(self.received[9:12])

    @property
    def body(self) -> bytes:
        """The body of the complete answer."""
        return bytes(self.received[self.body_start : self.end])


def content_length(head: bytes) -> int:
    """Return the length an answer's head announces; raises ValueError where it does not."""
    lower = head.lower()
    at = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[at:].split(b"\r\n", 1)[0])


def drive(
    start: Callable[[], None], address: tuple[str, int], requests: Sequence[bytes], connections: int, warm_s: float, measure_s: float
) -> Answers:
    """Keep `connections` requests under way, and return the answers that came after `warm_s` and within `measure_s`.

    `start` is called when the connections are open, and may wait for other generators. Requests are sent in turn, and over again.
    """
    supply = itertools.cycle(requests)
    members = [Connection(address) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for member in members:
            member.open()
            selector.register(member.sock, selectors.EVENT_READ, member)
        start()
        for member in members:
            member.send(next(supply))
        try:
            for _ in _answers(selector, supply, warm_s):
                pass
            return _measured(selector, supply, measure_s)
        finally:
            for member in members:
                member.sock.close()


def _measured(selector: selectors.BaseSelector, supply: Iterator[bytes], measure_s: float) -> Answers:
    latency_s: list[float] = []
    statuses: Counter[int] = Counter()
    kept: list[bytes] = []
    began, cpu_began = time.perf_counter(), time.process_time()
    for number, (status, took_s, connection) in enumerate(_answers(selector, supply, measure_s)):
        statuses[status] += 1
        if 200 <= status < 300:
            latency_s.append(took_s)
            if number % KEEP_EVERY == 0:
                kept.append(connection.body)
    elapsed_s = time.perf_counter() - began
    return Answers(np.array(latency_s), statuses, kept, elapsed_s, time.process_time() - cpu_began)


def _answers(selector: selectors.BaseSelector, supply: Iterator[bytes], seconds: float) -> Iterator[tuple[int, float, Connection]]:
    """Yield (status, seconds it took, connection) of every answer for some time; the next request goes out after each."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for ready, _ in selector.select(timeout=0.1):
            connection: Connection = ready.data
            try:
                if connection.read():
                    yield connection.status, time.perf_counter() - connection.sent_at, connection
                    connection.send(next(supply))
            except OSError:
                yield 0, time.perf_counter() - connection.sent_at, connection
                selector.unregister(connection.sock)
                connection.sock.close()
                connection.open()
                selector.register(connection.sock, selectors.EVENT_READ, connection)
                connection.send(next(supply))
