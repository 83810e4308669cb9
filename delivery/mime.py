"""A message as an e-mail: text and HTML twins, one-click unsubscribe headers, and no way to inject a header.

The standard library folds and encodes what is not plain, once for each value. The frame around it is written here: by way of the
library's message objects one e-mail took longer than everything else that happens to it.
"""

from __future__ import annotations

import base64
import binascii
import email.policy
import re
import secrets
from datetime import UTC, datetime
from email.errors import HeaderParseError, MessageDefect
from email.headerregistry import Address
from email.utils import format_datetime
from functools import lru_cache

from delivery.channels.base import Delivery

INTERNATIONAL = email.policy.SMTP.clone(utf8=True)
"""For recipients whose local part is not ASCII (RFC 6532); their servers take such headers."""

LONGEST_ADDRESS = 320
LONGEST_LINE = 78
"""What RFC 5322 section 2.1.1 asks for; longer lines are folded or encoded."""
SPECIALS = frozenset(' "(),:;<>@[\\]')
PLAIN_ADDRESS = re.compile(
    r"([\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*)@([a-zA-Z0-9-]{1,63}(?:\.[a-zA-Z0-9-]{1,63})*)", re.ASCII
)
"""What needs no parser: a dot-atom (RFC 5322 section 3.2.3) at a domain in ASCII."""
ASCII = bytes(range(128))
LINE_BREAK = re.compile(r"\r\n|\r|\n")


class BadAddressError(ValueError):
    """This is not one e-mail address."""


def parse_address(text: str) -> Address:
    """Return the one bare address that `text` is, its domain in ASCII; raises BadAddressError."""
    plain = PLAIN_ADDRESS.fullmatch(text)
    if plain and len(text) <= LONGEST_ADDRESS:
        return Address(username=plain[1], domain=plain[2])
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


def compose(delivery: Delivery, sender: Address, recipient: Address, boundary: str = "") -> bytes:
    """Return the e-mail of a delivery; its Message-ID is that of the grant, so that two copies can be told to be one.

    `boundary`: what parts its twins, "": one that nobody can foresee.
    """
    content, utf8 = delivery.content, not recipient.addr_spec.isascii()
    head = [
        _folded("From", str(sender), utf8),
        _address("To", recipient, utf8),
        _folded("Subject", content.title, utf8),
        _line("Date", _date(int(delivery.at))),
        _line("Message-ID", f"<{delivery.message.grant_id}@{sender.domain}>"),
        _line("Auto-Submitted", "auto-generated"),
    ]
    if content.unsubscribe_url:
        # Not folded: the library would encode a long link, and no mail client would find it.
        head += [_line("List-Unsubscribe", f"<{content.unsubscribe_url}>"), _line("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")]
    head.append(_line("MIME-Version", "1.0"))
    plain = _part("plain", content.plain or content.text)
    if not content.html:
        return b"".join((*head, plain))
    boundary = boundary or f"=_{secrets.token_hex(16)}"
    head.append(_line("Content-Type", f'multipart/alternative; boundary="{boundary}"'))
    edge = f"--{boundary}".encode()
    return b"\r\n".join((b"".join(head), edge, plain, edge, _part("html", content.html), edge + b"--\r\n"))


def _part(subtype: str, text: str) -> bytes:
    """Return a body with its headers, in lines that every server takes."""
    data = (LINE_BREAK.sub("\r\n", text).removesuffix("\r\n") + "\r\n").encode()
    if text.isascii() and all(len(line) <= LONGEST_LINE for line in data.split(b"\r\n")):
        encoding, body = "7bit", data
    elif 6 * len(data.translate(None, ASCII)) > len(data):
        # Shorter than quoted-printable where more than a sixth is not ASCII.
        encoding, body = "base64", base64.encodebytes(data).replace(b"\n", b"\r\n")
    else:
        encoding, body = "quoted-printable", binascii.b2a_qp(data)
    head = _line("Content-Type", f'text/{subtype}; charset="utf-8"') + _line("Content-Transfer-Encoding", encoding)
    return head + b"\r\n" + body


def _line(name: str, value: str) -> bytes:
    """Return a header as it stands; raises ValueError where it would be more than one."""
    if not value.isprintable():
        raise ValueError(f"the header {name} cannot hold {value!r}")
    return f"{name}: {value}\r\n".encode("ascii")


def _address(name: str, address: Address, utf8: bool) -> bytes:
    plain = f"{name}: {address.username}@{address.domain}\r\n"
    # Nobody's address is remembered.
    is_plain = PLAIN_ADDRESS.fullmatch(address.addr_spec) and not address.display_name and len(plain) <= LONGEST_LINE
    return plain.encode("ascii") if is_plain else _fold(name, str(address), utf8)


@lru_cache(4096)
def _folded(name: str, value: str, utf8: bool) -> bytes:
    """Return what `_fold` does, remembered: many messages share their sender and their subject."""
    return _fold(name, value, utf8)


def _fold(name: str, value: str, utf8: bool) -> bytes:
    """Return a header as the library folds and encodes it."""
    policy = INTERNATIONAL if utf8 else email.policy.SMTP
    folded: str = policy.fold(name, policy.header_store_parse(name, value)[1])
    return folded.encode()


@lru_cache(64)
def _date(at: int) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))
