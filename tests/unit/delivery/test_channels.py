"""The channels that need no server, and the settings of all."""

from __future__ import annotations

import mailbox
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from delivery.channels.base import Accepted, Permanent, Resources, Transient
from delivery.channels.console import ConsoleSettings
from delivery.channels.email import EmailSettings
from delivery.channels.in_app import InAppSettings
from delivery.channels.maildir import MaildirSettings
from delivery.channels.registry import ChannelSettings, open_channels, open_stand_ins
from delivery.inbox import MemoryInbox
from tests.unit.delivery.examples import NOW, a_delivery, a_message

RESOURCES = Resources(MemoryInbox())


async def test_the_in_app_channel_puts_messages_into_the_inbox() -> None:
    inbox = MemoryInbox()
    channel = InAppSettings().open(Resources(inbox))
    await channel.send([a_delivery(a_message(1)), a_delivery(a_message(2, user_id="u1"))])
    await channel.send([a_delivery(a_message(1))])
    newest, oldest = inbox.latest("u1")
    assert (newest.grant_id, oldest.grant_id) == (a_message(2).grant_id, a_message(1).grant_id)
    assert (oldest.title, oldest.text, oldest.at) == ("A new room", "Come in", NOW)


async def test_a_maildir_holds_the_emails_that_would_have_been_sent(tmp_path: Path) -> None:
    channel = MaildirSettings(path=tmp_path / "sub" / "mail").open(RESOURCES)
    user = 'u1"\r\nBcc: all@example.org\0'
    answers = await channel.send([a_delivery(), a_delivery(a_message(2, user_id=user), address=user)])
    assert all(isinstance(answer, Accepted) for answer in answers)
    filed = sorted(mailbox.Maildir(tmp_path / "sub" / "mail"), key=lambda message: str(message["Message-ID"]))
    assert filed[0]["To"] == "ada@example.org"
    assert all(message["Bcc"] is None for message in filed)
    assert [message["Subject"] for message in filed] == ["A new room"] * 2


async def test_a_maildir_refuses_what_is_no_address(tmp_path: Path) -> None:
    (answer,) = await MaildirSettings(path=tmp_path / "mail").open(RESOURCES).send([a_delivery(address="a\r\nb@example.org")])
    assert isinstance(answer, Permanent)


async def test_a_maildir_that_another_shard_has_begun_to_make_is_filled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (answer,) = await MaildirSettings(path=tmp_path / "mail").open(RESOURCES).send([a_delivery()])
    assert isinstance(answer, Accepted)


async def test_a_maildir_that_cannot_be_written_is_tried_later(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("in the way")
    (answer,) = await MaildirSettings(path=tmp_path / "mail").open(RESOURCES).send([a_delivery()])
    assert isinstance(answer, Transient)
    assert answer.down


async def test_the_console_shows_a_line_and_no_one_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    channel = ConsoleSettings().open(RESOURCES)
    await channel.send([a_delivery(a_message(1, user_id="u1\x1b[2J\n"), title="Hello \u202eworld")])
    assert capsys.readouterr().out == "console -> u1�[2J�: Hello �world\n"


def test_channels_are_opened_by_name_from_their_settings() -> None:
    settings = TypeAdapter(list[ChannelSettings]).validate_python(
        [
            {"kind": "in_app"},
            {"kind": "email", "host": "mail.example.org", "sender": "news@example.org"},
            {"kind": "webhook", "secret": "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"},
            {"kind": "webhook", "name": "chat", "secret": "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"},
            {"kind": "maildir", "path": "/tmp/mail"},
            {"kind": "console"},
        ]
    )
    channels = open_channels(settings, RESOURCES)
    assert sorted(channels) == ["chat", "console", "email", "in_app", "maildir", "webhook"]
    assert all(channel.name == name for name, channel in channels.items())
    assert "whsec" not in repr(settings)


def test_a_second_relay_of_the_same_name_stands_in_for_the_first() -> None:
    first, second = (EmailSettings(host=host, sender="news@example.org") for host in ("a.example.org", "b.example.org"))
    assert list(open_channels([first, second], RESOURCES)) == ["email"]
    assert {name: len(others) for name, others in open_stand_ins([first, second, ConsoleSettings()], RESOURCES).items()} == {
        "email": 1,
        "console": 0,
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([ConsoleSettings(), ConsoleSettings()], "console and console are both named 'console'"),
        ([EmailSettings(host="a", sender="a@example.org"), ConsoleSettings(name="email")], "email and console are both named 'email'"),
    ],
)
def test_only_relays_that_can_write_to_the_same_addresses_share_a_name(settings: list[ChannelSettings], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        open_channels(settings, RESOURCES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "pigeon"},
        {"kind": "email"},
        {"kind": "console", "colour": "red"},
        {"kind": "email", "host": "h", "sender": "s", "timeout_s": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(list[ChannelSettings]).validate_python([wrong])
