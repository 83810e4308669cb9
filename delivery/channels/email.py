"""E-mail over SMTP: connections kept, STARTTLS, and every reply code taken for what it means."""

from __future__ import annotations

from collections.abc import Sequence
from email.headerregistry import Address
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTP
from pydantic import Field, SecretStr

from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Settings, Traits, Transient, Unknown
from delivery.mime import BadAddressError, compose, parse_address

Tls = Literal["required", "offered", "implicit", "never"]
"""STARTTLS required · STARTTLS where the server offers it · TLS from the first byte (port 465) · never."""

BAD_MAILBOX = frozenset({550, 551, 553, 556})
"""Reply codes to RCPT that say that there is no such mailbox (RFC 5321 section 4.2.3, RFC 7504)."""


SILENT = Transient("the mail server went silent at an earlier message", down=True)
"""What is said of the rest of a turn: to wait as long for each would leave each of them open."""


class EmailSettings(Settings):
    """Settings of the e-mail channel.

    `sender`: the From address. `return_path`: where bounces go, "": to the sender. `ca_file`: trusted certificates, None: the system's.
    `connections`: most for a wave, of which a courier has several under way; each sends `messages_per_turn` before it may be another's.
    """

    kind: Literal["email"] = "email"
    name: str = "email"
    host: str
    port: int = 587
    sender: str
    sender_name: str = ""
    return_path: str = ""
    username: str | None = None
    password: SecretStr | None = None
    tls: Tls = "required"
    ca_file: str | None = None
    timeout_s: float = Field(default=20.0, gt=0)
    connections: int = Field(default=4, ge=1)
    messages_per_turn: int = Field(default=25, ge=1)

    def check_address(self, address: str) -> None:
        """See Settings."""
        check_email_address(address)

    def open(self, resources: Resources) -> Email:
        """Return the channel."""
        del resources
        return Email(self)


def check_email_address(address: str) -> None:
    """Raise ValueError where a text is not one bare e-mail address."""
    parse_address(address)


class Email:
    """Sends e-mail. A turn is one connection that sends its deliveries one after the other; connections are kept."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        address = parse_address(settings.sender)
        self._sender = Address(settings.sender_name, address.username, address.domain)
        self._return_path = parse_address(settings.return_path or settings.sender).addr_spec
        self._idle: list[SMTP] = []

    @property
    def name(self) -> str:
        """See Channel."""
        return self._settings.name

    @property
    def traits(self) -> Traits:
        """See Channel."""
        return Traits(batch=self._settings.messages_per_turn, concurrency=self._settings.connections)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        connection = _Connection(self._idle.pop() if self._idle else self._new(), self._sender, self._return_path)
        answers: list[Answer] = []
        try:
            for delivery in deliveries:
                answers.append(answers[-1] if _is_down(answers) else SILENT if connection.is_silent else await connection.send(delivery))
        finally:
            connection.give_back(self._idle)
        return answers

    async def close(self) -> None:
        """See Channel."""
        while self._idle:
            smtp = self._idle.pop()
            try:
                await smtp.quit()
            except (aiosmtplib.SMTPException, OSError):
                smtp.close()

    def _new(self) -> SMTP:
        settings = self._settings
        return SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password.get_secret_value() if settings.password else None,
            timeout=settings.timeout_s,
            use_tls=settings.tls == "implicit",
            start_tls={"required": True, "offered": None, "implicit": False, "never": False}[settings.tls],
            cert_bundle=settings.ca_file,
        )


def _is_down(answers: Sequence[Answer]) -> bool:
    return bool(answers) and isinstance(answers[-1], Transient) and answers[-1].down


class _Connection:
    """One SMTP connection during one turn."""

    def __init__(self, smtp: SMTP, sender: Address, return_path: str) -> None:
        self._smtp, self._sender, self._return_path = smtp, sender, return_path
        self._usable = True
        self.is_silent = False

    async def send(self, delivery: Delivery) -> Answer:
        # Whoever is cancelled in the middle of an exchange leaves a connection that nobody can use again.
        self._usable = False
        answer = await self._exchange(delivery)
        self._usable = True
        return answer

    def give_back(self, idle: list[SMTP]) -> None:
        if self._usable and self._smtp.is_connected:
            idle.append(self._smtp)
        else:
            self._smtp.close()

    async def _exchange(self, delivery: Delivery) -> Answer:
        try:
            recipient = parse_address(delivery.address)
            packed = compose(delivery, self._sender, recipient)
        except BadAddressError as error:
            return Permanent(str(error), bad_address=True)
        try:
            await self._open_envelope(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            return await self._refused(error, bad_address=error.code in BAD_MAILBOX)
        except aiosmtplib.SMTPSenderRefused as error:
            return await self._refused(error)
        except UnicodeEncodeError:
            await self._forget_envelope()
            return Permanent(f"the server takes no international addresses such as {delivery.address!r}")
        except (aiosmtplib.SMTPException, OSError) as error:
            self._smtp.close()
            return Transient(f"no connection to the mail server: {error}", down=True)
        return await self._data(packed)

    async def _open_envelope(self, recipient: Address) -> None:
        """Agree on sender and recipient; a kept connection that the server has closed meanwhile is opened anew, once."""
        if self._smtp.is_connected:
            try:
                return await self._mail_and_rcpt(recipient)
            except aiosmtplib.SMTPServerDisconnected:
                self._smtp.close()
            except aiosmtplib.SMTPResponseException as error:
                if error.code != aiosmtplib.SMTPStatus.domain_unavailable:
                    raise
        await self._smtp.connect()
        await self._mail_and_rcpt(recipient)
        return None

    async def _mail_and_rcpt(self, recipient: Address) -> None:
        smtp = self._smtp
        international = not recipient.addr_spec.isascii()
        await smtp.ehlo() if smtp.is_ehlo_or_helo_needed else None
        utf8 = international and smtp.supports_extension("smtputf8")
        await smtp.mail(self._return_path, options=["SMTPUTF8"] if utf8 else [])
        await smtp.rcpt(recipient.addr_spec, encoding="utf-8" if utf8 else "ascii")

    async def _data(self, packed: bytes) -> Answer:
        try:
            response = await self._smtp.data(packed)
        except aiosmtplib.SMTPDataError as error:
            return await self._refused(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            # The server may have taken the message before the line broke: only it knows.
            self._smtp.close()
            self.is_silent = isinstance(error, TimeoutError)
            return Unknown(f"the mail server went silent after the message was sent: {error}", down=True)
        return Accepted(response.message[:200])

    async def _refused(self, error: aiosmtplib.SMTPResponseException, *, bad_address: bool = False) -> Answer:
        await self._forget_envelope()
        reason = f"{error.code} {error.message}"[:500]
        return Permanent(reason, bad_address) if error.code >= 500 else Transient(reason, down=error.code == 421)

    async def _forget_envelope(self) -> None:
        try:
            await self._smtp.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._smtp.close()
