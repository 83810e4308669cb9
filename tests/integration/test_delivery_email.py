"""E-mail against a real SMTP server on this machine, at its best and at its worst."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Transient, Unknown
from delivery.channels.email import SILENT, Email, EmailSettings
from delivery.inbox import MemoryInbox
from tests.integration.waiting import LONG_S, never
from tests.unit.delivery.examples import a_delivery, a_message

Handled = Callable[[SMTP], Awaitable[str]]


@dataclass
class Mailbox:
    """A mail server's handler: keeps what it is sent, and can be told to misbehave."""

    refusals: dict[str, str] = field(default_factory=dict)
    on_data: Handled | None = None
    on_mail: str | None = None
    received: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    return_paths: list[str | None] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802  # aiosmtpd's name
        if self.on_mail:
            return self.on_mail
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.sessions.add(id(session))
        self.encrypted.append(session.ssl is not None)
        if self.on_data is not None:
            return await self.on_data(server)
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.SMTP)
        assert isinstance(message, EmailMessage)
        self.received.append((list(envelope.rcpt_tos), message))
        self.return_paths.append(envelope.mail_from)
        return "250 kept as 42"


@dataclass
class Certificate:
    """A certificate for localhost and what the server needs to use it."""

    path: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    signed = builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    pem = signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certificate(folder / "cert.pem", context)


@asynccontextmanager
async def served(mailbox: Mailbox, ssl_context: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """Serve a mailbox over SMTP in the test's own loop, on a port of the system's choice."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0, ssl=ssl_context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def channel(port: int, **settings: Any) -> AsyncIterator[Email]:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "sender": "news@t.example", "tls": "never", "timeout_s": LONG_S}
    opened = EmailSettings(**values | settings).open(Resources(MemoryInbox()))
    try:
        yield opened
    finally:
        await opened.close()


async def send(mailbox: Mailbox, *deliveries: Delivery, server: dict[str, Any] | None = None, **settings: Any) -> list[Answer]:
    async with served(mailbox, **server or {}) as port, channel(port, **settings) as mail:
        return await mail.send(deliveries or [a_delivery()])


async def test_a_message_arrives_as_text_and_html_with_a_way_out() -> None:
    mailbox = Mailbox()
    (answer,) = await send(mailbox, sender_name="Tidings & Co")
    assert answer == Accepted("kept as 42")
    ((recipients, message),) = mailbox.received
    assert recipients == ["ada@example.org"]
    assert (message["From"], message["Subject"]) == ("Tidings & Co <news@t.example>", "A new room")
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["List-Unsubscribe"].startswith("<https://t.example/unsubscribe/")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Message-ID"] == f"<{a_message().grant_id}@t.example>"


async def test_bounces_go_to_the_return_path_or_else_to_the_sender() -> None:
    mailbox = Mailbox()
    await send(mailbox)
    await send(mailbox, return_path="bounces@t.example")
    assert mailbox.return_paths == ["news@t.example", "bounces@t.example"]
    assert [message["From"] for _, message in mailbox.received] == ["news@t.example"] * 2


async def test_a_connection_serves_many_messages_and_several_turns() -> None:
    mailbox = Mailbox()
    async with served(mailbox) as port, channel(port) as mail:
        for _ in range(3):
            await mail.send([a_delivery()] * 3)
    assert len(mailbox.received) == 9
    assert len(mailbox.sessions) == 1


async def test_a_kept_connection_that_the_server_closed_is_opened_anew() -> None:
    mailbox = Mailbox()
    async with served(mailbox) as port, channel(port) as mail:
        await mail.send([a_delivery()])
        transport = mail._idle[0].transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        assert await mail.send([a_delivery()]) == [Accepted("kept as 42")]


async def test_starttls_is_used_and_the_certificate_checked(certificate: Certificate) -> None:
    mailbox = Mailbox()
    server = {"tls_context": certificate.context}
    assert await send(mailbox, server=server, tls="required", ca_file=str(certificate.path)) == [Accepted("kept as 42")]
    assert await send(mailbox, server=server, tls="offered", ca_file=str(certificate.path)) == [Accepted("kept as 42")]
    assert mailbox.encrypted == [True, True]
    (answer,) = await send(mailbox, server=server, tls="required")
    assert isinstance(answer, Transient)
    assert answer.down


async def test_tls_from_the_first_byte(certificate: Certificate) -> None:
    mailbox = Mailbox()
    answers = await send(mailbox, server={"ssl_context": certificate.context}, tls="implicit", ca_file=str(certificate.path))
    assert answers == [Accepted("kept as 42")]


async def test_without_the_starttls_that_is_required_nothing_is_sent() -> None:
    mailbox = Mailbox()
    (answer,) = await send(mailbox, tls="required")
    assert isinstance(answer, Transient)
    assert mailbox.received == []


async def test_logging_in(certificate: Certificate) -> None:
    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=data == LoginPassword(b"me", b"right"), handled=False)

    server = {"tls_context": certificate.context, "authenticator": check, "auth_required": True}
    settings = {"tls": "required", "ca_file": str(certificate.path), "username": "me"}
    assert await send(Mailbox(), server=server, password="right", **settings) == [Accepted("kept as 42")]
    (answer,) = await send(Mailbox(), server=server, password="wrong", **settings)
    assert isinstance(answer, Transient)  # our own password says nothing about the recipient
    assert answer.down


async def test_refused_recipients_are_judged_by_their_code_and_do_not_stop_the_others() -> None:
    mailbox = Mailbox(
        {"gone@example.org": "550 5.1.1 no such user", "full@example.org": "452 4.2.2 full", "spam@example.org": "554 policy"}
    )
    addresses = ["gone@example.org", "full@example.org", "spam@example.org", "ada@example.org"]
    answers = await send(mailbox, *(a_delivery(address=address) for address in addresses))
    assert answers == [
        Permanent("550 5.1.1 no such user", bad_address=True),
        Transient("452 4.2.2 full"),
        Permanent("554 policy"),
        Accepted("kept as 42"),
    ]
    assert len(mailbox.sessions) == 1


@pytest.mark.parametrize(("reply", "kind"), [("451 try later", Transient), ("554 too big", Permanent)])
async def test_a_refused_message_is_judged_by_its_code(reply: str, kind: type[Answer]) -> None:
    async def refuse(server: SMTP) -> str:
        return reply

    (answer,) = await send(Mailbox(on_data=refuse))
    assert type(answer) is kind


async def test_a_server_that_shuts_down_is_down_for_the_rest_of_the_turn() -> None:
    mailbox = Mailbox(on_mail="421 going away")
    answers = await send(mailbox, a_delivery(), a_delivery())
    assert all(isinstance(answer, Transient) and answer.down for answer in answers)


async def test_a_server_that_hangs_up_in_the_middle_of_a_message_leaves_it_unknown() -> None:
    async def hang_up(server: SMTP) -> str:
        assert isinstance(server.transport, asyncio.Transport)
        server.transport.abort()
        return "250 never arrives"

    first, second = await send(Mailbox(on_data=hang_up), a_delivery(), a_delivery(a_message(2)))
    assert isinstance(first, Unknown)
    assert isinstance(second, Unknown)  # tried on a new connection, which went the same way


async def test_a_server_that_never_answers_a_message_leaves_that_one_unknown() -> None:
    first, *others = await send(Mailbox(on_data=never), *(a_delivery(a_message(number)) for number in range(3)))
    assert isinstance(first, Unknown)
    assert others == [SILENT, SILENT]  # certainly not sent: they had not come to it


async def test_a_server_that_is_not_there_is_down() -> None:
    async with served(Mailbox()) as port:
        pass
    async with channel(port) as mail:
        (answer, _) = await mail.send([a_delivery(), a_delivery()])
    assert isinstance(answer, Transient)
    assert answer.down


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org\r\nBcc: all@example.org",
        "ada\0@example.org",
        "ada@example.org, eve@example.org",
        "<ada@example.org>",
        "ada",
        "",
        "@x",
        "ada@",
    ],
)
async def test_what_is_not_one_address_is_refused_before_anything_is_sent(address: str) -> None:
    mailbox = Mailbox()
    (answer,) = await send(mailbox, a_delivery(address=address))
    assert isinstance(answer, Permanent)
    assert answer.bad_address
    assert mailbox.received == []


async def test_an_international_domain_is_written_in_ascii_and_a_local_part_needs_the_servers_consent() -> None:
    mailbox = Mailbox()
    answers = await send(mailbox, a_delivery(address="ada@bücher.example"), a_delivery(address="jürgen@example.org"))
    assert answers[0] == Accepted("kept as 42")
    assert mailbox.received[0][0] == ["ada@xn--bcher-kva.example"]
    assert isinstance(answers[1], Permanent)


async def test_an_international_address_is_accepted_where_the_server_takes_it() -> None:
    mailbox = Mailbox()
    (answer,) = await send(mailbox, a_delivery(address="jürgen@example.org"), server={"enable_SMTPUTF8": True})
    assert answer == Accepted("kept as 42")


async def test_lines_of_a_body_cannot_end_the_message() -> None:
    mailbox = Mailbox()
    await send(mailbox, a_delivery(plain="one\n.\nQUIT\n..two\n"))
    ((_, message),) = mailbox.received
    (plain, _) = message.iter_parts()
    assert plain.get_content().splitlines() == ["one", ".", "QUIT", "..two"]


async def test_who_is_cancelled_in_the_middle_of_a_message_leaves_no_half_used_connection_behind() -> None:
    reached = asyncio.Event()

    async def hang(server: SMTP) -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    mailbox = Mailbox(on_data=hang)
    async with served(mailbox) as port, channel(port) as mail:
        sending = asyncio.create_task(mail.send([a_delivery()]))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        mailbox.on_data = None
        assert await mail.send([a_delivery()]) == [Accepted("kept as 42")]


async def test_an_address_the_server_cannot_take_does_not_spoil_the_connection() -> None:
    mailbox = Mailbox()
    answers = await send(mailbox, a_delivery(address="jürgen@example.org"), a_delivery())
    assert isinstance(answers[0], Permanent)
    assert answers[1] == Accepted("kept as 42")
    assert len(mailbox.sessions) == 1
