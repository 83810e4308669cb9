"""What every push channel promises, against local servers that speak the provider's protocol and check what it checks."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qs

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import Framework
from hypothesis import given
from hypothesis import strategies as st
from jwt.types import Options
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from delivery.channels.apns import ApnsSettings
from delivery.channels.base import Accepted, Answer, Channel, Permanent, Resources, Transient, Unknown
from delivery.channels.fcm import FcmSettings
from delivery.channels.push import clipped, retry_after_s
from delivery.channels.registry import ChannelSettings
from delivery.inbox import MemoryInbox
from tests.integration.waiting import LONG_S, never
from tests.unit.delivery.examples import NOW, a_delivery, a_message

RESOURCES = Resources(MemoryInbox())
PHONE = "ab" * 32
CHECKS: Options = {"verify_exp": False, "verify_iat": False}  # the messages' time is not this machine's


@cache
def keys() -> dict[str, Any]:
    return {"fcm": rsa.generate_private_key(65537, 2048), "apns": ec.generate_private_key(ec.SECP256R1())}


def pem(name: str) -> str:
    return str(keys()[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@dataclass(frozen=True)
class Push:
    """One push as a provider understood it."""

    token: str
    title: str
    body: str
    collapse: str
    expires_at: int
    http: str
    size: int


@dataclass
class Provider:
    """A provider that answers as scripted, by device token, once its own checks have passed."""

    kind: str
    replies: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=dict)
    got: list[Push] = field(default_factory=list)
    signed_in: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    silent: bool = False
    token_status: int = 200

    def app(self) -> Starlette:
        routes = [
            Route("/token", self.sign_in, methods=["POST"]),
            Route("/v1/projects/demo-1/messages:send", self.fcm, methods=["POST"]),
            Route("/3/device/{token}", self.apns, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def sign_in(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        claims = jwt.decode(form["assertion"][0], keys()["fcm"].public_key(), ["RS256"], audience=str(request.url), options=CHECKS)
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        assert (claims["iss"], claims["exp"] - claims["iat"]) == ("tidings@demo-1.example", 3600)
        self.signed_in.append(f"access-{len(self.signed_in)}")
        return JSONResponse({"access_token": self.signed_in[-1], "expires_in": 3600, "token_type": "Bearer"}, self.token_status)

    async def fcm(self, request: Request) -> Response:
        raw = await request.body()
        token = request.headers["authorization"].removeprefix("Bearer ")
        if token not in self.signed_in or token in self.revoked:
            return JSONResponse({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, 401)
        sent = orjson.loads(raw)["message"]
        shown, android = sent["notification"], sent["android"]
        assert android["collapse_key"] == android["notification"]["tag"] == sent["apns"]["headers"]["apns-collapse-id"]
        expires_at = int(NOW) + int(android["ttl"].removesuffix("s"))
        push = Push(
            sent["token"], shown["title"], shown["body"], android["collapse_key"], expires_at, request.scope["http_version"], len(raw)
        )
        return await self.answer(push, {"name": f"projects/demo-1/messages/{len(self.got)}"})

    async def apns(self, request: Request) -> Response:
        raw = await request.body()
        token = request.headers["authorization"].removeprefix("bearer ")
        if token in self.revoked:
            return JSONResponse({"reason": "ExpiredProviderToken"}, 403)
        claims = jwt.decode(token, keys()["apns"].public_key(), ["ES256"], options=CHECKS)
        assert (claims["iss"], jwt.get_unverified_header(token)["kid"]) == ("TEAM123456", "KEY1234567")
        assert (request.headers["apns-topic"], request.headers["apns-push-type"]) == ("org.example.app", "alert")
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request.headers["apns-id"])
        if token not in self.signed_in:
            self.signed_in.append(token)
        alert, headers = orjson.loads(raw)["aps"]["alert"], request.headers
        push = Push(
            request.path_params["token"],
            alert["title"],
            alert["body"],
            headers["apns-collapse-id"],
            int(headers["apns-expiration"]),
            request.scope["http_version"],
            len(raw),
        )
        return await self.answer(push, None, {"apns-id": headers["apns-id"]})

    async def answer(self, push: Push, body: dict[str, Any] | None, headers: dict[str, str] | None = None) -> Response:
        self.got.append(push)
        if self.silent:
            await never()
        status, says, extra = self.replies.get(push.token, (200, body, headers or {}))
        return JSONResponse(says, status, extra) if says is not None else Response(status_code=status, headers=extra)

    def error(self, status: int, code: str, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Return an error as this provider writes it."""
        retry = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.kind == "apns":
            return status, {"reason": code}, retry
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
        return status, {"error": {"code": status, "message": code, "details": [detail]}}, retry

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Channel]:
        """Serve, and give a channel that sends here."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        at = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config, over = Config(), asyncio.Event()
        # The server closes the socket it is given.
        config.bind, config.graceful_timeout, config.errorlog = [f"fd://{listener.detach()}"], 0.1, None

        async def stopped() -> None:
            await over.wait()

        serving = asyncio.create_task(serve(cast("Framework", self.app()), config, shutdown_trigger=stopped))
        channel = a_channel(self.kind, at, **settings)
        try:
            yield channel
        finally:
            await channel.close()
            over.set()
            await serving


def a_setting(kind: str, at: str, **settings: Any) -> FcmSettings | ApnsSettings:
    common: dict[str, Any] = {"timeout_s": LONG_S, "endpoint": at, "private_key": pem(kind)}
    if kind == "fcm":
        own = {"project_id": "demo-1", "client_email": "tidings@demo-1.example", "token_uri": f"{at}/token"}
        return FcmSettings(**common | own | settings)
    own = {"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "org.example.app"}
    return ApnsSettings(**common | own | settings)


def a_channel(kind: str, at: str, **settings: Any) -> Channel:
    return a_setting(kind, at, **settings).open(RESOURCES)


@pytest.fixture(params=["fcm", "apns"])
def provider(request: pytest.FixtureRequest) -> Provider:
    return Provider(request.param)


async def push_to(channel: Channel, *tokens: str, at: float = NOW, **content: str) -> list[Answer]:
    return await channel.send([a_delivery(a_message(number), token, at, **content) for number, token in enumerate(tokens, 1)])


async def test_a_push_arrives_with_its_collapse_id_and_expiry(provider: Provider) -> None:
    async with provider.opened() as channel:
        (answer,) = await push_to(channel, PHONE)
    assert isinstance(answer, Accepted)
    assert answer.provider_id
    (got,) = provider.got
    assert (got.token, got.title, got.body) == (PHONE, "A new room", "Come in")
    assert (got.collapse, got.expires_at) == (a_message().entity, int(NOW) + 3600)
    assert got.http == ("2" if provider.kind == "apns" else "1.1")  # in clear text, only APNs is known to speak HTTP/2


async def test_every_delivery_gets_its_own_answer_in_order_and_a_dead_token_costs_the_others_nothing(provider: Provider) -> None:
    dead, busy, wrong = "cd" * 32, "ef" * 32, "12" * 32
    gone = (410, "Unregistered") if provider.kind == "apns" else (404, "UNREGISTERED")
    provider.replies = {
        dead: provider.error(*gone),
        busy: provider.error(503, "ServiceUnavailable", retry_after="7"),
        wrong: provider.error(400, "PayloadEmpty"),
    }
    async with provider.opened() as channel:
        answers = await push_to(channel, dead, PHONE, busy, wrong)
    assert isinstance(answers[0], Permanent)
    assert answers[0].bad_address
    assert isinstance(answers[1], Accepted)
    assert isinstance(answers[2], Transient)
    assert (answers[2].retry_after_s, answers[2].down) == (7.0, True)
    assert isinstance(answers[3], Permanent)
    assert not answers[3].bad_address
    assert len(provider.signed_in) == 1


async def test_too_many_requests_are_tried_later(provider: Provider) -> None:
    provider.replies = {PHONE: provider.error(429, "TooManyRequests", retry_after="90")}
    async with provider.opened() as channel:
        assert [(type(each), getattr(each, "retry_after_s", 0)) for each in await push_to(channel, PHONE)] == [(Transient, 90.0)]


async def test_a_refused_sign_in_loses_no_message_and_the_next_attempt_signs_in_anew(provider: Provider) -> None:
    async with provider.opened() as channel:
        await push_to(channel, PHONE)
        provider.revoked = set(provider.signed_in)
        (refused,) = await push_to(channel, PHONE)
        (later,) = await push_to(channel, PHONE, at=NOW + 1)
    assert isinstance(refused, Transient)
    assert refused.down
    assert isinstance(later, Accepted)


async def test_a_sign_in_is_used_until_shortly_before_it_ends(provider: Provider) -> None:
    async with provider.opened() as channel:
        for after_s in (0, 2000, 3590):
            await push_to(channel, PHONE, at=NOW + after_s)
    assert len(provider.signed_in) == 2


async def test_a_provider_that_falls_silent_leaves_it_open_and_one_that_is_away_certainly_sent_nothing(provider: Provider) -> None:
    async with provider.opened() as channel:
        provider.silent = True
        (silent,) = await push_to(channel, PHONE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        channel = a_channel(provider.kind, f"http://127.0.0.1:{taken.getsockname()[1]}")
        (away,) = await push_to(channel, PHONE)
        await channel.close()
    assert isinstance(silent, Unknown)
    assert isinstance(away, Transient)
    assert away.down


async def test_the_longest_text_fits_what_providers_take(provider: Provider) -> None:
    async with provider.opened() as channel:
        await push_to(channel, PHONE, title="\u00e9\n" * 10_000, text='"\U0001f389\n' * 100_000)
    assert provider.got[0].size < 4096
    assert provider.got[0].body.endswith("…")


async def test_a_failed_sign_in_is_asked_for_once_per_moment_however_many_wait_for_it() -> None:
    provider = Provider("fcm", token_status=503)
    async with provider.opened() as channel:
        answers = await push_to(channel, *[PHONE] * 20)
    assert all(isinstance(answer, Transient) and answer.down for answer in answers)
    assert (len(provider.signed_in), provider.got) == (1, [])


@pytest.mark.parametrize("address", ["", "ab" * 31, "../" * 30, "ab" * 32 + "\r\nx: y", "zz" * 32, "ab" * 32 + "?x"])
async def test_what_is_no_device_token_never_reaches_the_path_of_a_request(address: str) -> None:
    provider = Provider("apns")
    async with provider.opened() as channel:
        (answer,) = await push_to(channel, address)
    assert isinstance(answer, Permanent)
    assert answer.bad_address
    assert provider.got == []


@pytest.mark.parametrize("kind", ["fcm", "apns"])
def test_a_token_is_checked_at_the_door(kind: str) -> None:
    settings = a_setting(kind, "http://localhost")
    settings.check_address(PHONE)
    for wrong in ("", "hello", PHONE + "\r\nx: y", f"{PHONE} ", "https://example.org/" + PHONE):
        with pytest.raises(ValueError, match="token"):
            settings.check_address(wrong)


@pytest.mark.parametrize("kind", ["fcm", "apns"])
def test_secrets_are_shown_neither_in_settings_nor_in_the_error_about_them(kind: str) -> None:
    right = {"kind": kind, "private_key": pem(kind)}
    right |= {"project_id": "demo-1", "client_email": "a@b"} if kind == "fcm" else {"team_id": "T", "key_id": "K", "topic": "org.x"}
    read = TypeAdapter(ChannelSettings, config=ConfigDict(hide_input_in_errors=True))  # as the deployment's settings do
    part = pem(kind)[40:80]
    assert part not in repr(read.validate_python(right))
    other = pem("apns" if kind == "fcm" else "fcm")
    for wrong in ({"private_key": other}, {"private_key": part}, {"colour": "red"}, {"timeout_s": 0}):
        with pytest.raises(ValidationError) as caught:
            read.validate_python(right | wrong)
        assert part not in str(caught.value)
        assert other[40:80] not in str(caught.value)


@given(st.text(), st.integers(4, 60))
def test_a_clipped_text_is_never_longer_than_allowed_and_begins_as_the_whole(text: str, most: int) -> None:
    short = clipped(text, most)
    assert len(short.encode()) <= most
    assert text.startswith(short.removesuffix("…")) or short == text


@given(st.text(max_size=40))
def test_any_retry_after_is_understood_within_a_day_or_ignored(value: str) -> None:
    wait_s = retry_after_s(value, NOW)
    assert wait_s is None or 0 <= wait_s <= 86400
