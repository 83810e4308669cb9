"""A message as an e-mail: text and HTML twins, one-click unsubscribe headers, and no way to inject a header."""

from __future__ import annotations

import email.policy
import secrets
from datetime import UTC, datetime
from email.errors import HeaderParseError, MessageDefect
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache

from delivery.channels.base import Delivery


class BadAddressError(ValueError):
    """This is not one e-mail address."""


class _Verbatim(UnstructuredHeader, BaseHeader):
    """A header whose links must not be broken up: the library would encode long ones, and no mail client would find them."""

    def fold(self, *, policy: email.policy.Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


class _Registry(HeaderRegistry):
    """The library's, which makes a new class for every header of every message."""

    @cache  # noqa: B019  # one registry, and as many entries as there are header names
    def __getitem__(self, name: str) -> type[BaseHeader]:
        return super().__getitem__(name)


_HEADERS = _Registry()
_HEADERS.map_to_type("list-unsubscribe", _Verbatim)
POLICY = email.policy.SMTP.clone(header_factory=_HEADERS, cte_type="7bit")
INTERNATIONAL = POLICY.clone(utf8=True)
"""For recipients whose local part is not ASCII (RFC 6532); their servers take such headers."""

LONGEST_ADDRESS = 320
SPECIALS = frozenset(' "(),:;<>@[\\]')


def parse_address(text: str) -> Address:
    """Return the one bare address that `text` is, its domain in ASCII; raises BadAddressError."""
    local, _, domain = text.strip(" ").rpartition("@")
    try:
        if not (local and domain and text.isprintable() and len(text) <= LONGEST_ADDRESS):
            raise ValueError(text)
        ascii_domain = domain if domain.startswith("[") else domain.encode("idna").decode("ascii")
        if not local.isascii() and not set(local) & SPECIALS:
            return Address(username=local, domain=Address(addr_spec=f"x@{ascii_domain}").domain)
        return Address(addr_spec=f"{local}@{ascii_domain}")
    except (ValueError, IndexError, HeaderParseError, MessageDefect) as error:
        raise BadAddressError(f"{text[:LONGEST_ADDRESS]!r} is not an e-mail address") from error


def compose(delivery: Delivery, sender: Address, recipient: Address) -> EmailMessage:
    """Return the e-mail of a delivery; its Message-ID is that of the grant, so that two copies can be told to be one."""
    content = delivery.content
    message = EmailMessage(policy=POLICY if recipient.addr_spec.isascii() else INTERNATIONAL)
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
        # The library would compile a pattern to look for one that does not occur; nobody can foresee this one.
        message.set_boundary(f"=_{secrets.token_hex(16)}")
    return message
