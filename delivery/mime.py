"""A message as an e-mail: text and HTML twins, one-click unsubscribe headers, and no way to inject a header."""

from __future__ import annotations

import email.policy
from datetime import UTC, datetime
from email.errors import HeaderParseError, MessageDefect
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.utils import format_datetime

from delivery.channels.base import Delivery


class BadAddressError(ValueError):
    """This is not one e-mail address."""


class _Verbatim(UnstructuredHeader, BaseHeader):
    """A header whose links must not be broken up: the library would encode long ones, and no mail client would find them."""

    def fold(self, *, policy: email.policy.Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _Verbatim)
POLICY = email.policy.SMTP.clone(header_factory=_HEADERS, cte_type="7bit")


def parse_address(text: str) -> Address:
    """Return the one bare address that `text` is, its domain in ASCII; raises BadAddressError."""
    bare = text.strip(" ")
    try:
        if not bare or not bare.isprintable() or len(bare) > 320:
            raise ValueError
        local, at, domain = bare.rpartition("@")
        if not (local and at and domain):
            raise ValueError
        return Address(addr_spec=f"{local}@{domain.encode('idna').decode('ascii') if not domain.startswith('[') else domain}")
    except (ValueError, IndexError, HeaderParseError, MessageDefect) as error:
        raise BadAddressError(f"{text[:320]!r} is not an e-mail address") from error


def compose(delivery: Delivery, sender: Address, recipient: Address) -> EmailMessage:
    """Return the e-mail of a delivery; its Message-ID is that of the grant, so that two copies can be told to be one."""
    content = delivery.content
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = content.title
    message["Date"] = format_datetime(datetime.fromtimestamp(delivery.at, UTC))
    message["Message-ID"] = f"<{delivery.message.grant_id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    if content.unsubscribe_url:
        message["List-Unsubscribe"] = f"<{content.unsubscribe_url}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(content.plain or content.text)
    if content.html:
        message.add_alternative(content.html, subtype="html")
    return message
