"""Web push against a local push service that checks the signature, and a browser that decrypts by RFC 8291 without our library."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import TypeAdapter, ValidationError

from delivery.channels.base import Accepted, Answer, Channel, Permanent, Resources, Transient, Unknown
from delivery.channels.registry import ChannelSettings
from delivery.channels.web_push import WebPushSettings
from delivery.inbox import MemoryInbox
from tests.integration.waiting import LONG_S
from tests.unit.delivery.examples import NOW, a_delivery, a_message

RFC_8291_BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Browser:
    """A browser's side of a subscription."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = b"sixteen bytes of"

    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def subscription(self, endpoint: str) -> str:
        keys = {"p256dh": b64(self.point()), "auth": b64(self.auth)}
        return orjson.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys}).decode()

    def decrypt(self, body: bytes) -> bytes:
        """RFC 8291 section 3.4 over RFC 8188, for one record."""
        salt, length = body[:16], body[20]
        sender, record = body[21 : 21 + length], body[21 + length :]
        assert len(record) <= int.from_bytes(body[16:20]), "more than one record"
        secret = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        material = derived(self.auth, secret, b"WebPush: info\0" + self.point() + sender, 32)
        key = derived(salt, material, b"Content-Encoding: aes128gcm\0", 16)
        plain = AESGCM(key).decrypt(derived(salt, material, b"Content-Encoding: nonce\0", 12), record, None)
        padded = plain.rstrip(b"\0")
        assert padded[-1:] == b"\x02", "not the last record"
        return padded[:-1]


def derived(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


@cache
def server_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem() -> str:
    return server_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class PushService:
    """A push service (RFC 8030) that answers by the last part of the path, and what its browser read."""

    browser: Browser = field(default_factory=Browser)
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    async def receive(self, request: web.Request) -> web.Response:
        body, headers = await request.read(), request.headers
        assert (headers["content-encoding"], len(body) <= 4096) == ("aes128gcm", True)
        scheme, _, given = headers["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in given.split(","))
        point = server_key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert (scheme, parts["k"]) == ("vapid", b64(point))
        claims = jwt.decode(
            parts["t"], server_key().public_key(), ["ES256"], audience=str(request.url.origin()), options={"verify_exp": False}
        )
        assert claims["sub"] == "mailto:push@example.org"
        assert NOW < claims["exp"] <= NOW + 2 * 86400
        self.tokens.add(parts["t"])
        self.got.append(orjson.loads(self.browser.decrypt(body)))
        self.headers.append({name.lower(): value for name, value in headers.items()})
        status, _, retry_after = request.match_info["status"].partition("-")
        extra = {"retry-after": retry_after} if retry_after else {}
        return web.Response(status=int(status), headers={"location": str(request.url)} | extra)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[tuple[Channel, str]]:
        """Serve, and give a channel and the address of this service."""
        app = web.Application()
        app.router.add_post("/{status}", self.receive)
        channel = a_setting(allow_private=True, **settings).open(Resources(MemoryInbox()))
        async with TestServer(app) as server:
            yield channel, f"http://127.0.0.1:{server.port}"
            await channel.close()

    async def push(self, *statuses: str, **content: Any) -> list[Answer]:
        async with self.opened() as (channel, at):
            addresses = [self.browser.subscription(f"{at}/{status}") for status in statuses]
            return await channel.send([a_delivery(a_message(n), address, **content) for n, address in enumerate(addresses, 1)])


def a_setting(**changes: Any) -> WebPushSettings:
    values: dict[str, Any] = {"timeout_s": LONG_S, "private_key": pem(), "subject": "mailto:push@example.org"}
    return WebPushSettings(**values | changes)


def test_the_browser_of_these_tests_reads_the_example_of_the_standard() -> None:
    key = ec.derive_private_key(int.from_bytes(unb64("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")), ec.SECP256R1())
    browser = Browser(key, unb64("BTBZMqHH6r4Tts7J_aSIgg"))
    assert browser.decrypt(unb64(RFC_8291_BODY)) == b"When I grow up, I want to be a watermelon"


async def test_a_browser_reads_what_was_pushed_and_the_service_learns_when_it_is_stale() -> None:
    service = PushService()
    (answer,) = await service.push("201")
    assert isinstance(answer, Accepted)
    assert answer.provider_id.endswith("/201")
    (got,), (headers,) = service.got, service.headers
    assert (got["title"], got["body"], got["url"]) == ("A new room", "Come in", "https://t.example/i1")
    assert (got["send_id"], got["tag"]) == (a_message().grant_id, a_message().entity)
    assert (headers["ttl"], headers["topic"], headers["urgency"]) == ("3600", a_message().entity, "normal")


async def test_an_ended_subscription_is_never_written_to_again_and_costs_the_others_nothing() -> None:
    gone, missing, fine, busy, refused, wrong = await PushService().push("410", "404", "201", "429-90", "403", "400")
    for ended in (gone, missing):
        assert isinstance(ended, Permanent)
        assert ended.bad_address
    assert isinstance(fine, Accepted)
    assert isinstance(busy, Transient)
    assert busy.retry_after_s == 90.0
    assert isinstance(refused, Transient)
    assert isinstance(wrong, Permanent)
    assert not wrong.bad_address


async def test_a_token_serves_one_service_for_half_its_life() -> None:
    service = PushService()
    async with service.opened() as (channel, at):
        for after_s in (0, 6 * 3600, 6 * 3600 + 1):
            await channel.send([a_delivery(address=service.browser.subscription(f"{at}/201"), at=NOW + after_s)])
    assert len(service.tokens) == 2


async def test_the_longest_text_fits_and_a_link_that_does_not_is_told() -> None:
    service = PushService()
    (fits,) = await service.push("201", title="\u00e9\n" * 10_000, text='"\U0001f389\n' * 100_000)
    (too_long,) = await service.push("201", url="https://t.example/" + "x" * 4000)
    assert isinstance(fits, Accepted)
    assert service.got[0]["body"].endswith("…")
    assert isinstance(too_long, Permanent)
    assert not too_long.bad_address


async def test_a_private_address_is_never_posted_to_and_one_that_is_away_certainly_got_nothing() -> None:
    service = PushService()
    async with service.opened() as (_, at):
        guarded = a_setting().open(Resources(MemoryInbox()))
        (refused,) = await guarded.send([a_delivery(address=service.browser.subscription(at.replace("http", "https") + "/201"))])
        await guarded.close()
    async with service.opened() as (channel, _):
        (away,) = await channel.send([a_delivery(address=service.browser.subscription("http://127.0.0.1:9/201"))])
    assert isinstance(refused, Permanent)
    assert isinstance(away, Transient)
    assert service.got == []


async def test_a_service_that_falls_silent_leaves_it_open() -> None:
    service = PushService()
    async with service.opened() as (channel, _), TestServer(_silent()) as silent:
        (answer,) = await channel.send([a_delivery(address=service.browser.subscription(f"http://127.0.0.1:{silent.port}/201"))])
    assert isinstance(answer, Unknown)


def _silent() -> web.Application:
    async def close(request: web.Request) -> web.Response:
        assert request.transport is not None
        await request.read()
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{status}", close)
    return app


def wrong_subscriptions() -> dict[str, str]:
    browser, at = Browser(), "https://push.example/1"
    off_curve = b64(b"\x04" + b"\x01" * 64)
    keys = {"p256dh": b64(browser.point()), "auth": b64(browser.auth)}
    made = {
        "short secret": {"endpoint": at, "keys": keys | {"auth": b64(b"short")}},
        "no point": {"endpoint": at, "keys": keys | {"p256dh": off_curve}},
        "not base64": {"endpoint": at, "keys": keys | {"p256dh": "ключ"}},
        "no keys": {"endpoint": at},
        "not https": {"endpoint": "http://push.example/1", "keys": keys},
        "password": {"endpoint": "https://a:b@push.example/1", "keys": keys},
        "line break": {"endpoint": "https://push.example/1\r\nx: y", "keys": keys},
    }
    return {"text": "hello", "empty": "", "list": "[]"} | {name: orjson.dumps(each).decode() for name, each in made.items()}


@pytest.mark.parametrize("name", wrong_subscriptions())
async def test_what_is_no_subscription_is_refused_at_the_door_and_never_posted_to(name: str) -> None:
    address = wrong_subscriptions()[name]
    with pytest.raises(ValueError, match=r"\S"):
        a_setting().check_address(address)
    channel = a_setting().open(Resources(MemoryInbox()))
    (answer,) = await channel.send([a_delivery(address=address)])
    await channel.close()
    assert isinstance(answer, Permanent)
    assert answer.bad_address


def test_a_subscription_passes_the_door_however_its_keys_are_padded() -> None:
    address = Browser().subscription("https://push.example/1")
    a_setting().check_address(address)
    padded = orjson.loads(address)
    padded["keys"] = {name: value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4) for name, value in padded["keys"].items()}
    a_setting().check_address(orjson.dumps(padded).decode())


@pytest.mark.parametrize("wrong", [{"private_key": "no key"}, {"subject": "push@example.org"}, {"colour": "red"}])
def test_wrong_settings_are_refused_without_telling_the_key(wrong: dict[str, str]) -> None:
    right = {"kind": "web_push", "private_key": pem(), "subject": "mailto:push@example.org"}
    read: TypeAdapter[Any] = TypeAdapter(ChannelSettings)
    assert pem()[40:80] not in repr(read.validate_python(right))
    with pytest.raises(ValidationError) as caught:
        read.validate_python(right | wrong)
    assert pem()[40:80] not in str(caught.value)
