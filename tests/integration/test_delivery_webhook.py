"""Webhooks against a real HTTP server on this machine that answers in every way a receiver can."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier

from delivery.channels.base import Accepted, Answer, Permanent, Transient, Unknown
from delivery.channels.guard import AddrInfo, Find, addresses_of, connector, guarded_socket, is_public
from delivery.channels.webhook import Webhook, WebhookSettings
from delivery.turn import DispatchSettings
from lake.redis_clock import RedisClock
from tests.integration.waiting import LONG_S, never
from tests.unit.delivery.examples import NOW, a_delivery, a_message

SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes of it!").decode()


@dataclass
class Receiver:
    """An endpoint that answers as told and keeps what it got."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    respond: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    got: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append((request.path_qs, await request.read(), dict(request.headers)))
        if self.respond is not None:
            return await self.respond(request)
        return web.Response(status=self.status, headers=self.headers)


@asynccontextmanager
async def served(receiver: Receiver) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


def a_channel(**settings: Any) -> Webhook:
    values: dict[str, Any] = {"secret": SECRET, "timeout_s": LONG_S}
    return Webhook(WebhookSettings(**values | settings))


async def post(receiver: Receiver, *, at: float = NOW, **settings: Any) -> Answer:
    channel = a_channel(allow_private=True, **settings)
    async with served(receiver) as port:
        (answer,) = await channel.send([a_delivery(address=f"http://localhost:{port}/hook?x=1", at=at)])
        await channel.close()
    return answer


async def test_a_message_arrives_signed_for_the_receiver_to_check(redis_client: Any) -> None:
    receiver = Receiver()
    # The receiver's library compares the time of the signature with its own clock.
    assert await post(receiver, at=RedisClock(redis_client).now()) == Accepted()
    ((path, body, headers),) = receiver.got
    assert path == "/hook?x=1"
    checked = Verifier(SECRET).verify(body, headers)
    assert checked["type"] == "notification.sent"
    assert checked["data"]["title"] == "A new room"
    assert headers["webhook-id"] == a_message().grant_id
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    receiver = Receiver(status, {"Location": "http://localhost/elsewhere"})
    assert await post(receiver) == Permanent(f"HTTP {status}")
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Accepted()),
        (204, Accepted()),
        (400, Permanent("HTTP 400")),
        (404, Permanent("HTTP 404")),
        (408, Transient("HTTP 408")),
        (410, Permanent("HTTP 410", bad_address=True)),
        (429, Transient("HTTP 429")),
        (500, Transient("HTTP 500")),
        (503, Transient("HTTP 503")),
    ],
)
async def test_answers_are_taken_for_what_they_mean(status: int, answer: Answer) -> None:
    assert await post(Receiver(status)) == answer


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120.0),
        ("Tue, 14 Nov 2000 22:15:20 GMT", 0.0),
        ("99999999999", 86400.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert await post(Receiver(429, {"Retry-After": header})) == Transient("HTTP 429", seconds)


async def test_a_receiver_that_hangs_leaves_it_unknown() -> None:
    assert isinstance(await post(Receiver(respond=never)), Unknown)


async def test_a_receiver_that_hangs_up_leaves_it_unknown() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert isinstance(await post(Receiver(respond=hang_up)), Unknown)


async def test_an_endless_answer_is_not_waited_for() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    assert await post(Receiver(respond=drip)) == Accepted()


async def test_as_many_receivers_as_a_courier_waits_for_may_hang_and_the_next_is_reached() -> None:
    most = 2 * 2 * DispatchSettings().waves - 1
    all_hang, reached = asyncio.Event(), asyncio.Event()

    async def respond(request: web.Request) -> web.Response:
        if request.path == "/hangs":
            all_hang.set() if len(receiver.got) == most else None
            await reached.wait()
        return web.Response()

    receiver = Receiver(respond=respond)
    channel = a_channel(allow_private=True, concurrency=1)
    async with served(receiver) as port:
        hanging = a_delivery(address=f"http://localhost:{port}/hangs")
        calls = [asyncio.create_task(channel.send([hanging])) for _ in range(most)]
        await asyncio.wait_for(all_hang.wait(), LONG_S)
        assert await channel.send([a_delivery(address=f"http://localhost:{port}/")]) == [Accepted()]
        reached.set()
        assert await asyncio.gather(*calls) == [[Accepted()]] * len(calls)
        await channel.close()


async def test_a_receiver_that_is_not_there_is_tried_later() -> None:
    async with served(Receiver()) as port:
        pass
    channel = a_channel(allow_private=True)
    (answer,) = await channel.send([a_delivery(address=f"http://localhost:{port}/")])
    await channel.close()
    assert isinstance(answer, Transient)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "https://me:secret@example.org/",
        "https://exa\r\nmple.org/",
        "https://example.org:99999/",
        "not a url",
        "",
        "\0",
    ],
)
async def test_what_is_no_https_url_is_refused(address: str) -> None:
    (answer,) = await a_channel().send([a_delivery(address=address)])
    assert isinstance(answer, Permanent)
    assert answer.bad_address


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]"]
)
async def test_private_addresses_are_refused_however_they_are_written(host: str) -> None:
    receiver = Receiver()
    async with served(receiver) as port:
        channel = a_channel()
        (answer,) = await channel.send([a_delivery(address=f"https://{host}:{port}/")])
        await channel.close()
    assert isinstance(answer, Permanent | Transient)  # Transient: some spellings have no address at all here
    assert receiver.got == []


@dataclass
class Network:
    """A network without any host, where `find` looks names up; it remembers which addresses were connected to."""

    find: Find
    asked: list[str] = field(default_factory=list)

    async def connect(self, url: str, within_s: float = LONG_S) -> None:
        limits = aiohttp.ClientTimeout(connect=within_s)
        async with aiohttp.ClientSession(connector=connector(8, 1.0, find=self.find, open_socket=self._open), timeout=limits) as session:
            try:
                await session.post(url)
            except aiohttp.ClientConnectorError as error:
                raise error.os_error from error

    def _open(self, info: AddrInfo) -> socket.socket:
        guarded_socket(info).close()
        self.asked.append(str(info[4][0]))
        raise OSError("no network here")


async def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    network = Network(rebinding)
    with pytest.raises(OSError, match="no network"):
        await network.connect("https://rebind.example/")
    assert network.asked == ["93.184.216.34"]
    assert next(answers) == ["127.0.0.1"]


async def test_a_name_with_one_private_address_among_public_ones_is_refused() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    network = Network(mixed)
    with pytest.raises(OSError, match=r"10\.0\.0\.1"):
        await network.connect("https://mixed.example/")
    assert network.asked == []


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "93.184.216.35"]

    network = Network(two)
    with pytest.raises(OSError, match="no network"):
        await network.connect("https://two.example/")
    assert list(dict.fromkeys(network.asked)) == ["93.184.216.34", "93.184.216.35"]


async def test_a_lookup_that_takes_too_long_is_given_up() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(aiohttp.ConnectionTimeoutError):
        await Network(never).connect("https://slow.example/", 0.05)


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "169.254.169.254"])
async def test_an_address_in_a_url_is_checked_though_it_is_never_looked_up(host: str) -> None:
    network = Network(addresses_of)
    with pytest.raises(OSError, match="not a public address"):
        await network.connect(f"https://{host}/")
    assert network.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
        "192.0.2.1", "198.18.0.1", "240.0.0.1", "192.88.99.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::7f00:1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_known_as_such(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_known_as_such(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_by_itself(inner: ipaddress.IPv4Address) -> None:
    for outer in (ipaddress.IPv6Address((0xFFFF << 32) | int(inner)), ipaddress.IPv6Address((0x64FF9B << 96) | int(inner))):
        assert is_public(outer) == is_public(inner)
