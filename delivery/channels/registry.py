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

REPLACEABLE = {"email", "apprise"}
"""Kinds whose addresses any provider of the kind can write to. A push token or a subscription is bound to who issued it."""
EITHER = " or ".join(sorted(REPLACEABLE))


def providers_of(settings: Sequence[ChannelSettings]) -> Mapping[str, Sequence[ChannelSettings]]:
    """Return the providers of each channel, in the order in which they are asked.

    Raises ValueError where those of one name are of different kinds, or of one whose addresses mean something to one provider only.
    """
    providers: dict[str, list[ChannelSettings]] = {}
    for each in settings:
        providers.setdefault(each.name, []).append(each)
    for name, several in providers.items():
        kinds = {each.kind for each in several}
        if len(kinds) > 1 or (len(several) > 1 and not kinds <= REPLACEABLE):
            found = " and ".join(each.kind for each in several)
            raise ValueError(f"the channels {found} are both named {name!r}: give one another name; only two of {EITHER} share one")
    return providers


def open_channels(settings: Sequence[ChannelSettings], resources: Resources) -> Mapping[str, Channel]:
    """Return the preferred provider of each channel; raises what `providers_of` raises."""
    return {name: several[0].open(resources) for name, several in providers_of(settings).items()}


def open_stand_ins(settings: Sequence[ChannelSettings], resources: Resources) -> Mapping[str, Sequence[Channel]]:
    """Return the other providers of each channel, in the order in which they stand in; raises what `providers_of` raises."""
    return {name: [each.open(resources) for each in several[1:]] for name, several in providers_of(settings).items()}


CheckAddress = Callable[[str], object]
"""Raises ValueError, saying what is wrong, where a text cannot be an address."""


def address_checks(settings: Sequence[ChannelSettings]) -> Mapping[str, CheckAddress]:
    """Return what checks addresses, by channel name; an e-mail address is one even before there is a way to send e-mail."""
    return {"email": check_email_address} | {name: several[0].check_address for name, several in providers_of(settings).items()}
