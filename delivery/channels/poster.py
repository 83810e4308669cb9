"""Posts to URLs that users gave: no redirects, no private addresses, a limit on the whole, and no reading of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpcore
import httpx

from delivery.channels.base import Accepted, Answer, Permanent, Transient, Unknown
from delivery.channels.guard import ForbiddenAddressError, GuardedBackend
from delivery.channels.push import retry_after_s

TRY_LATER = frozenset({408, 425, 429})
NOTHING_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)

Headers = Sequence[tuple[bytes, bytes]]


def endpoint(address: str, *, allow_http: bool) -> httpx.URL:
    """Return the URL an address is; raises ValueError where nothing may be posted to it."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme != "https" and not (allow_http and url.scheme == "http"):
        raise ValueError("the URL must start with https://")
    if not url.host or url.userinfo:
        raise ValueError("the URL needs a host and no user name or password")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"there is no port {url.port}")
    return url


@dataclass(frozen=True, slots=True)
class Response:
    """The status of an answer and its headers, their names in lower case."""

    status: int
    headers: Mapping[bytes, bytes]

    @property
    def try_later(self) -> bool:
        """Whether the same request may get through later."""
        return self.status >= 500 or self.status in TRY_LATER

    def header(self, name: str) -> str:
        """Return a header's value, "" where there is none."""
        return self.headers.get(name.encode(), b"").decode("ascii", "replace")

    def answer(self, now: float, *, gone: frozenset[int], later: frozenset[int] = frozenset(), reference: str = "") -> Answer:
        """Return what the status says of the delivery. `gone`: the address is dead; `later`: others to try again."""
        if 200 <= self.status < 300:
            return Accepted(self.header(reference) if reference else "")
        if self.try_later or self.status in later:
            return Transient(f"HTTP {self.status}", retry_after_s(self.header("retry-after"), now))
        return Permanent(f"HTTP {self.status}", bad_address=self.status in gone)


class Poster:
    """A pool of connections to addresses that were checked after their names were resolved."""

    def __init__(self, timeout_s: float, concurrency: int, *, allow_private: bool = False) -> None:
        self._timeout_s, self._concurrency = timeout_s, concurrency
        self._backend = GuardedBackend(allow_private=allow_private)
        self._pool = self._new_pool()

    async def close(self) -> None:
        """Let go of connections; posting again opens new ones."""
        await self._pool.aclose()
        self._pool = self._new_pool()

    async def post(self, url: httpx.URL, headers: Headers, body: bytes) -> Response | Permanent | Transient | Unknown:
        """Return the answer to one POST; Transient where it was certainly not sent, Unknown where nobody can tell."""
        try:
            # The limits of single reads do not stop a server that drips its answer; this one does.
            async with asyncio.timeout(2 * self._timeout_s):
                return await self._exchange(url, headers, body)
        except ForbiddenAddressError as error:
            return Permanent(str(error))
        except NOTHING_SENT as error:
            return Transient(f"no connection to {url.host}: {error}")
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, TimeoutError) as error:
            return Unknown(f"{url.host} did not answer: {type(error).__name__}")

    async def _exchange(self, url: httpx.URL, headers: Headers, body: bytes) -> Response:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        ours = [(b"host", url.netloc), (b"content-length", b"%d" % len(body)), (b"user-agent", b"Tidings")]
        # The body of the answer is not read: only its status and headers count, and it may be of any size.
        async with self._pool.stream("POST", target, headers=[*ours, *headers], content=body, extensions={"timeout": limits}) as response:
            return Response(response.status, {name.lower(): value for name, value in response.headers})

    def _new_pool(self) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(max_connections=4 * self._concurrency, keepalive_expiry=30.0, network_backend=self._backend)
