"""Posts to URLs that users gave: no redirects, no private addresses, a limit on the whole, and no reading of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import httpx
import yarl

from delivery.channels.base import Accepted, Answer, Permanent, Transient, Unknown
from delivery.channels.guard import ForbiddenAddressError, connector
from delivery.channels.push import retry_after_s

TRY_LATER = frozenset({408, 425, 429})
NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
KEEP_S = 30.0
"""How long a connection is kept that nothing is sent over."""

CALLS = 32
"""How many times `concurrency` a courier asks at once where endpoints hang: 8 waves of 2 lanes, and as many calls left behind by them.

With fewer connections those that do not hang would wait for one until that took too long.
"""

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
    """The status of an answer and its headers, found by their names in any case."""

    status: int
    headers: Mapping[str, str]

    @property
    def try_later(self) -> bool:
        """Whether the same request may get through later."""
        return self.status >= 500 or self.status in TRY_LATER

    def header(self, name: str) -> str:
        """Return a header's value, "" where there is none."""
        return self.headers.get(name, "").encode("ascii", "replace").decode()

    def answer(self, now: float, *, gone: frozenset[int], later: frozenset[int] = frozenset(), reference: str = "") -> Answer:
        """Return what the status says of the delivery. `gone`: the address is dead; `later`: others to try again."""
        if 200 <= self.status < 300:
            return Accepted(self.header(reference) if reference else "")
        if self.try_later or self.status in later:
            return Transient(f"HTTP {self.status}", retry_after_s(self.header("retry-after"), now))
        return Permanent(f"HTTP {self.status}", bad_address=self.status in gone)


class Poster:
    """Connections that are kept, to addresses that were checked after their names were resolved."""

    def __init__(self, timeout_s: float, concurrency: int, *, allow_private: bool = False) -> None:
        self._timeout_s, self._concurrency, self._allow_private = timeout_s, concurrency, allow_private
        self._limits = aiohttp.ClientTimeout(total=None, connect=timeout_s, sock_connect=timeout_s, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections; posting again opens new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def post(self, url: httpx.URL, headers: Headers, body: bytes) -> Response | Permanent | Transient | Unknown:
        """Return the answer to one POST; Transient where it was certainly not sent, Unknown where nobody can tell."""
        try:
            # The limits of single reads do not stop a server that drips its answer; this one does.
            async with asyncio.timeout(2 * self._timeout_s):
                return await self._exchange(url, headers, body)
        except NOTHING_SENT as error:
            cause = error.__cause__ or error
            return Permanent(str(cause)) if isinstance(cause, ForbiddenAddressError) else Transient(f"no connection to {url.host}: {cause}")
        except aiohttp.InvalidURL:
            return Permanent(f"{url.host} is no host")
        except (aiohttp.ClientError, TimeoutError) as error:
            return Unknown(f"{url.host} did not answer: {type(error).__name__}")

    async def _exchange(self, url: httpx.URL, headers: Headers, body: bytes) -> Response:
        if self._session is None:
            self._session = self._new_session()
        ours = {name.decode("ascii"): value.decode("ascii") for name, value in headers}
        # The body of the answer is not read: only its status and headers count, and it may be of any size.
        target = yarl.URL(str(url), encoded=True)
        async with self._session.post(target, headers=ours, data=body, allow_redirects=False) as response:
            return Response(response.status, response.headers)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector(CALLS * self._concurrency, KEEP_S, allow_private=self._allow_private),
            headers={"user-agent": "Tidings"},
            skip_auto_headers=("accept", "accept-encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._limits,
            auto_decompress=False,
        )
