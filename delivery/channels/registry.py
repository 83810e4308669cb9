"""Every channel there is, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from delivery.channels.apns import ApnsSettings
from delivery.channels.apprise import AppriseSettings
from delivery.channels.base import Channel, Resources
from delivery.channels.console import ConsoleSettings
from delivery.channels.email import EmailSettings, check_email_address
from delivery.channels.fcm import FcmSettings
from delivery.channels.in_app import InAppSettings
from delivery.channels.maildir import MaildirSettings
from delivery.channels.web_push import WebPushSettings
from delivery.channels.webhook import WebhookSettings

ChannelSettings = Annotated[
    InAppSettings
    | EmailSettings
    | WebhookSettings
    | FcmSettings
    | ApnsSettings
    | WebPushSettings
    | AppriseSettings
    | MaildirSettings
    | ConsoleSettings,
    Field(discriminator="kind"),
]  # fmt: skip


def open_channels(settings: Sequence[ChannelSettings], resources: Resources) -> Mapping[str, Channel]:
    """Return the channels of settings by name; raises ValueError where two have the same name."""
    channels: dict[str, Channel] = {}
    for each in settings:
        if each.name in channels:
            raise ValueError(f"two channels are named {each.name!r}: give one of them another name")
        channels[each.name] = each.open(resources)
    return channels


CheckAddress = Callable[[str], object]
"""Raises ValueError, saying what is wrong, where a text cannot be an address."""


def address_checks(settings: Sequence[ChannelSettings]) -> Mapping[str, CheckAddress]:
    """Return what checks addresses, by channel name; an e-mail address is one even before there is a way to send e-mail."""
    return {"email": check_email_address} | {each.name: each.check_address for each in settings}
