"""For each kind of channel a receiver on this machine that speaks its protocol, for the suite that all channels pass."""

from __future__ import annotations

import mailbox
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestServer

from delivery.channels.base import Channel, Resources
from delivery.channels.console import ConsoleSettings
from delivery.channels.email import EmailSettings
from delivery.channels.in_app import InAppSettings
from delivery.channels.maildir import MaildirSettings
from delivery.inbox import MemoryInbox
from tests.contracts import test_channels_apprise as apprise
from tests.contracts import test_channels_push as push
from tests.contracts import test_channels_web_push as web_push
from tests.integration import test_delivery_email as email
from tests.integration import test_delivery_webhook as webhook
from tests.integration.waiting import LONG_S, never

NOWHERE = "127.0.0.1:9"
"""Nobody listens there."""


@dataclass
class Rig:
    """An open channel and who receives from it.

    `address`: one that takes messages. `wrong`: what can be no address, "" where the channel takes any. `titles`: of what arrived.
    `away`: a channel whose provider is not there, None where there is none to be away. `hush`: from now on the receiver takes what it
    gets and never answers. `of_users`: whether users bring providers of their own, so that one that is away says nothing of the others.
    """

    channel: Channel
    address: str
    titles: Callable[[], list[str]]
    wrong: str = ""
    away: tuple[Channel, str] | None = None
    hush: Callable[[], object] | None = None
    of_users: bool = False


@asynccontextmanager
async def in_app() -> AsyncIterator[Rig]:
    """Yield the inbox."""
    inbox = MemoryInbox()
    channel = InAppSettings().open(Resources(inbox))
    yield Rig(channel, "u1", lambda: [entry.title for number in range(10) for entry in inbox.latest(f"u{number}")])


@asynccontextmanager
async def mail() -> AsyncIterator[Rig]:
    """Yield e-mail to a server that keeps what it gets."""
    kept = email.Mailbox()
    nowhere = EmailSettings(host="127.0.0.1", port=9, sender="news@t.example", tls="never").open(Resources(MemoryInbox()))

    def hush() -> None:
        kept.on_data = never

    async with email.served(kept) as port, email.channel(port) as channel:
        away = (nowhere, "ada@example.org")
        yield Rig(channel, "ada@example.org", lambda: [str(each["Subject"]) for _, each in kept.received], "ada@@example", away, hush)


@asynccontextmanager
async def hooks() -> AsyncIterator[Rig]:
    """Yield webhooks to an endpoint that answers 200."""
    receiver = webhook.Receiver()
    channel = webhook.a_channel(allow_private=True)

    def hush() -> None:
        receiver.respond = never

    async with webhook.served(receiver) as port:
        away = (webhook.a_channel(allow_private=True), f"http://{NOWHERE}/hook")
        yield Rig(channel, f"http://localhost:{port}/hook", lambda: _titles(receiver.got), "gopher://x", away, hush, of_users=True)
        await channel.close()


def _titles(got: list[tuple[str, bytes, dict[str, str]]]) -> list[str]:
    return [orjson.loads(body)["data"]["title"] for _, body, _ in got]


def phones(kind: str) -> Callable[[], AbstractAsyncContextManager[Rig]]:
    """Return what yields FCM or APNs, whose provider checks sign-in and form."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Rig]:
        provider = push.Provider(kind)

        def hush() -> None:
            provider.silent = True

        async with provider.opened() as channel:
            away = (push.a_channel(kind, f"http://{NOWHERE}"), push.PHONE)
            yield Rig(channel, push.PHONE, lambda: [each.title for each in provider.got], "no token", away, hush)

    return opened


@asynccontextmanager
async def browsers() -> AsyncIterator[Rig]:
    """Yield web push to a service that checks the signature, and a browser that decrypts."""
    service = web_push.PushService()
    subscription = service.browser.subscription
    async with service.opened() as (channel, at), TestServer(web_push._silent()) as silent:
        rig = Rig(channel, subscription(f"{at}/201"), lambda: [str(each["title"]) for each in service.got], "{}", of_users=True)

        def hush() -> None:
            rig.address = subscription(f"http://127.0.0.1:{silent.port}/201")

        rig.hush, rig.away = hush, (channel, subscription(f"http://{NOWHERE}/201"))
        yield rig


@asynccontextmanager
async def long_tail() -> AsyncIterator[Rig]:
    """Yield Apprise, by its JSON service."""
    service = apprise.Service()
    async with service.served() as at:
        channel = apprise.a_setting(f"json://{at}/{{address}}", timeout_s=LONG_S).open(apprise.RESOURCES)
        away = (apprise.a_setting(f"json://{NOWHERE}/{{address}}", timeout_s=LONG_S).open(apprise.RESOURCES), "ada")
        rig = Rig(channel, "ada", lambda: [orjson.loads(body)["title"] for _, body in service.got], "x/y", away)

        def hush() -> None:
            rig.address = "silent"

        rig.hush = hush
        yield rig


def files(folder: Path) -> Callable[[], AbstractAsyncContextManager[Rig]]:
    """Return what yields a Maildir."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Rig]:
        channel = MaildirSettings(path=folder / "mail").open(Resources(MemoryInbox()))

        def titles() -> list[str]:
            kept = mailbox.Maildir(folder / "mail")
            return [str(message_from_bytes(kept.get_bytes(key), policy=policy.default)["Subject"]) for key in kept.keys()]  # noqa: SIM118  # a mailbox is no mapping

        yield Rig(channel, "ada@example.org", titles, "ada@@example")

    return opened


def terminal(capsys: pytest.CaptureFixture[str]) -> Callable[[], AbstractAsyncContextManager[Rig]]:
    """Return what yields the terminal."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Rig]:
        told: list[str] = []

        def titles() -> list[str]:
            told.extend(line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines())
            return told

        yield Rig(ConsoleSettings().open(Resources(MemoryInbox())), "u1", titles)

    return opened


def rigs(folder: Path, capsys: pytest.CaptureFixture[str]) -> Mapping[str, Callable[[], AbstractAsyncContextManager[Rig]]]:
    """Return what opens a rig, by kind of channel."""
    return {
        "in_app": in_app,
        "email": mail,
        "webhook": hooks,
        "fcm": phones("fcm"),
        "apns": phones("apns"),
        "web_push": browsers,
        "apprise": long_tail,
        "maildir": files(folder),
        "console": terminal(capsys),
    }
