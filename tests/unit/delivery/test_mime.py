"""E-mails as bytes: the standard library reads back what was said, and nothing else."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.channels.base import Content
from delivery.mime import BadAddressError, compose, parse_address
from delivery.wording import clean, one_line
from tests.unit.delivery.examples import a_delivery

SENDER, READER = parse_address("news@t.example"), parse_address("ada@example.org")
LINK = "https://t.example/unsubscribe/" + "x" * 300
BODIES = st.text(max_size=400).map(clean)


def read_back(content: Content) -> EmailMessage:
    packed = compose(replace(a_delivery(), content=content), SENDER, READER)
    assert all(len(line) <= 998 for line in packed.split(b"\r\n")), "RFC 5321 takes no longer lines"
    assert b"\n" not in packed.replace(b"\r\n", b"")
    return email.message_from_bytes(packed, policy=email.policy.default)


def said(part: EmailMessage) -> str:
    return str(part.get_content()).replace("\r\n", "\n")


@given(st.text(max_size=150).map(one_line), BODIES, BODIES)
def test_what_is_said_is_read_back_and_nothing_is_added(title: str, plain: str, html: str) -> None:
    message = read_back(Content(title or "Something new", "", "", "", plain or "text", html, LINK))
    assert message.keys() == [
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version"),
        *(("Content-Type",) if html else ("Content-Type", "Content-Transfer-Encoding")),
    ]
    assert " ".join(str(message["Subject"]).split()) == (title or "Something new")
    assert message["List-Unsubscribe"] == f"<{LINK}>"
    parts = {part.get_content_type(): said(part).rstrip("\n") for part in message.walk() if not part.is_multipart()}
    assert parts == {"text/plain": (plain or "text").rstrip("\n")} | ({"text/html": html.rstrip("\n")} if html else {})


@pytest.mark.parametrize("text", ["Grüße aus Köln, wie versprochen.", "Добро пожаловать в сад.", "a" * 2000, ".\n..\n.", "trailing \n "])
def test_bodies_survive_whatever_their_encoding(text: str) -> None:
    assert said(read_back(Content("Hi", text, "", ""))) == text + "\n"


def test_a_link_that_would_break_a_header_is_refused() -> None:
    with pytest.raises(ValueError, match="List-Unsubscribe"):
        read_back(Content("Hi", "text", "", "", unsubscribe_url="https://t.example/\r\nBcc: all@t.example"))


def test_international_recipients_get_a_header_as_it_stands() -> None:
    packed = compose(a_delivery(), SENDER, parse_address("grüße@example.org"))
    assert "To: grüße@example.org\r\n".encode() in packed


@pytest.mark.parametrize("text", ["a@b.example", "first.last+tag@mail.example.org", "o'neil@x-y.example"])
def test_plain_addresses_are_taken_as_the_parser_takes_them(text: str) -> None:
    assert parse_address(text) == parse_address(f" {text}")


@pytest.mark.parametrize("text", ["a@b@c", "a..b@c.example", "@c.example", "a@", "a b@c.example", "a@c.example\n", f"a@{'x' * 64}.example"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadAddressError):
        parse_address(text)
